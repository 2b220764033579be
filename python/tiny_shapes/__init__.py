"""The default model of Reel: synthetic data, training, export and judging of `tiny-shapes`."""
