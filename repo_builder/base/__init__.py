"""What every room may use: errors, printing, digests, frozen records, YAML with lines, drawing.

Things that know a model, a device or Triton do not belong here. `errors` has every error with its
exit code; `console` prints: stdout is data, stderr is talk.
"""
