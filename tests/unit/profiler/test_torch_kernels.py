"""Kernels as calls of PyTorch, as far as that goes without it."""

from __future__ import annotations

import warnings

import pytest

from servesim.profiler.torch_kernels import compiling


def test_only_what_inductor_says_of_softmax_is_kept_quiet() -> None:
    """Its warning does not reach the user, nor the end of the block; others do."""
    text = "\nOnline softmax is disabled on the fly since Inductor decides to\nsplit the reduction.\n"
    with compiling():
        warnings.warn(text, UserWarning, stacklevel=1)
        with pytest.warns(UserWarning, match="another"):
            warnings.warn("another", UserWarning, stacklevel=1)
    with pytest.warns(UserWarning, match="Online softmax"):
        warnings.warn(text, UserWarning, stacklevel=1)
