"""PyTorch nets: made from the user's factory, exported, pruned, trained, distilled.

The one room that imports torch, always inside functions: it comes with the extra `[torch]`, and a
build without PyTorch sources never loads it. It takes modules, arrays and folders and knows nothing
of specs, plans or the store; the steps that call it do.

Every path begins with `factory.make`. `export.export` then writes ONNX and `parity.prove` compares
it with the net; `forward.call` gives arrays to a net and names its answers. `imports` finds the
files that belong to a net's code, without torch.
"""
