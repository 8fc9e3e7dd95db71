"""Steps for tests of the executor: real modules that real workers import, doing what one says."""
