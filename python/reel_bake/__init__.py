"""Bakes a model at a shape: exports, compiles, verifies, publishes. See docs/bundles.md."""

RECIPE = 2
"""The revision of what a bake does; `reel_bundle::RECIPE` is the same number. Raise both together
whenever packages, weights files or the canary of the same model would come out differently."""
SCHEMA = 1
"""The version of the manifest's format."""
