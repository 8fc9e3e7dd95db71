"""The SDK for applications: needs tritonclient and numpy, and nothing else of the package."""
