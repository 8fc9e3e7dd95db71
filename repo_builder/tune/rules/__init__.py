"""Which candidates there are, what to measure next, and what follows from it. No I/O, no clock.

`types` is what rules and what measures say to each other. The path: `space.candidates` lists them;
`Search(candidates, objective, current=..., budget_s=...)` of `search` is made once, and its
`next(observations)` is asked again and again with all observations so far, in their order. It
answers with the next `Measure` or, in the end, with a `Recommendation`. So a search that is killed
goes on where it was when it is given the same observations.
"""
