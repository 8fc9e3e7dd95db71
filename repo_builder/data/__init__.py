"""Makes the `.npz` files that specs name from what people have: images, tables, arrays.

A reader (`images`, `table`, `arrays`) gives `Rows`; `split` puts each row into one file, `write`
streams the files, and `make.make` is the path: split, check against the model, write. Nothing is
learnt or resampled here; what a build does with the files belongs to `steps/`.
"""
