"""What every room may use: errors, printing, digests, frozen records, YAML with lines, drawing.

Things that know a model, a device or Triton do not belong here, and nothing here imports another
room. `errors` has every error with its exit code; `console` prints: stdout is data, stderr is talk;
`digest` makes keys, `artifact` has the records that steps leave; `document` and `validate` read
YAML and say what is wrong in which line; `resources` finds what ships beside the code and
`templates` reads its templates; `svg` and `scatter` draw; `http_request` asks a server, a Triton
mostly, one question. `energy/` reads what a machine draws and how warm it is.
"""
