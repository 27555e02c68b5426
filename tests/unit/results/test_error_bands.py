"""Expected errors: whose they are, whose they are not, and how they are told."""

from __future__ import annotations

import pytest

import servesim
from servesim.latency import LATENCY_MODELS
from servesim.results import error_bands
from servesim.results.error_bands import NOT_VALIDATED, error_text, expected_error
from servesim.results.notes import validation_note

BANDS = [
    {
        "latency": {"name": "m", "a": 1.0},
        "gpu": gpu,
        "generation": "hopper",
        "model_class": "dense",
        "engine": "vllm",
        "data": None,
        "runs": runs,
        "ttft_s": {"median": 0.1, "p90": 0.2},
        "tpot_s": {"median": 0.05, "p90": p90},
    }
    for gpu, runs, p90 in (("h200-sxm", 40, 0.15), ("h100-sxm-64gb", 54, 0.3))
]


@pytest.fixture(autouse=True)
def bands(monkeypatch):
    """Put two bands in the place of those that ship."""
    monkeypatch.setattr(error_bands, "_bands", lambda: BANDS)


def ask(latency=None, gpu="h200-sxm", generation="hopper", kind="dense"):
    """Return the expected error."""
    return expected_error(latency or {"name": "m", "a": 1.0}, gpu=gpu, generation=generation, kind=kind)


def test_a_measured_gpu_has_its_own_band():
    """With the number of runs that it comes from."""
    found = ask()
    assert (found["basis"], found["gpu"], found["runs"], found["tpot_s"]["p90"]) == (
        "same GPU",
        "h200-sxm",
        40,
        0.15,
    )


def test_another_gpu_of_the_generation_gets_the_worst_band():
    """And is told that it was not measured."""
    found = ask(gpu="h100-sxm")
    assert (found["basis"], found["gpu"]) == ("same generation", "h100-sxm-64gb")
    assert "on another GPU of its generation, h100-sxm-64gb" in error_text(found)


@pytest.mark.parametrize(
    "question",
    (
        {"latency": {"name": "m", "a": 2.0}},
        {"latency": {"name": "other", "a": 1.0}},
        {"kind": "mixture of experts"},
        {"gpu": "mi300x", "generation": "cdna-3"},
    ),
)
def test_what_was_not_validated_is_said_to_be_so(question):
    """Other parameters, models, kinds of models, GPUs."""
    assert ask(**question) == NOT_VALIDATED


def test_the_place_of_a_table_is_no_parameter():
    """The same tables elsewhere are the same."""
    assert ask(latency={"name": "m", "a": 1.0, "path": "/somewhere"}) != NOT_VALIDATED


def test_errors_are_told_in_words():
    """Median and 90 % quantile; of a single run its error."""
    assert error_text(ask()) == (
        "TPOT 5% (90 %: 15%) and TTFT 10% (90 %: 20%) off in the median of 40 measured runs of vllm with dense models"
    )
    single = BANDS[0] | {"runs": 1, "basis": "same GPU", "data": "tables of X"}
    assert error_text(single).endswith(
        "off in the one measured run of vllm with dense models, with tables of X"
    )
    assert error_text(NOT_VALIDATED) == "not validated"


def test_notes_quote_the_worst_of_what_is_known():
    """One pool without a validation makes the whole run so; old results without the field say nothing."""
    pool = {"pool": "a", "latency_error": ask()}
    assert validation_note({"pools": [pool]}).startswith("note: expected error of latencies: TPOT 5%")
    assert "not validated" in validation_note(
        {"pools": [pool, {"pool": "b", "latency_error": NOT_VALIDATED}]}
    )
    other = {"pool": "b", "latency_error": ask(gpu="h100-sxm")}
    assert "; b TPOT" in validation_note({"pools": [pool, other]})
    assert validation_note({"pools": [{"pool": "a"}]}) is None


def test_bands_that_ship_are_of_the_defaults(monkeypatch):
    """A changed default makes them void: scripts/generate_accuracy.py renews them."""
    monkeypatch.undo()
    shipped = error_bands._bands()
    assert shipped
    for band in shipped:
        fields = LATENCY_MODELS.parameters(band["latency"]["name"]).model_fields
        defaults = {name: field.get_default() for name, field in fields.items() if name != "path"}
        assert {"name": band["latency"]["name"], **defaults} == band["latency"]
        assert band["runs"] >= 1
        assert 0 < band["tpot_s"]["median"] <= band["tpot_s"]["p90"]


def test_every_result_quotes_its_expected_error(monkeypatch):
    """In its provenance, by pool; a latency model that was passed in has none."""
    from servesim.latency.constant import Constant

    monkeypatch.undo()
    few = ["workload.max_requests=5", "cluster.pools.main.gpu=h200-sxm"]
    result = servesim.run("scenarios/quickstart.yaml", overrides=few)
    assert result.provenance["pools"][0]["latency_error"]["basis"] == "same GPU"
    given = servesim.run("scenarios/quickstart.yaml", overrides=few, latency=Constant(step_s=0.01))
    assert given.provenance["pools"][0]["latency_error"] == NOT_VALIDATED
