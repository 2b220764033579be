"""What schemathesis sends is made cheap, and stays as right or as wrong as it was."""

from __future__ import annotations

import itertools
from typing import Any

import schemathesis

# Two denoising steps are as good as two hundred to find out what is answered.
STEPS_FEW = 2
STEPS_MAX = 200
CREATES = ("/v1/videos", "/v1/videos/sync", "/v1/videos/extensions")
KEY = "Idempotency-Key"
# Longer keys are wrong with a number behind them.
KEY_CHARS_MAX = 200
numbers = itertools.count()


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    """A valid number of steps becomes a small one, and a request without one gets it."""
    if not context.operation or context.operation.path not in CREATES or not isinstance(body, dict):
        return body
    steps = body.get("num_inference_steps")
    if steps is None or (type(steps) is int and 1 <= steps <= STEPS_MAX):
        return {**body, "num_inference_steps": STEPS_FEW}
    return body


@schemathesis.hook
def map_headers(context: schemathesis.HookContext, headers: Any) -> Any:
    """Most keys become new ones: nearly all are the shortest, and the second use is a 409."""
    key = (headers or {}).get(KEY)
    number = next(numbers)
    if isinstance(key, str) and 0 < len(key) <= KEY_CHARS_MAX and number % 4:
        return {**headers, KEY: f"{key}{number}"}
    return headers
