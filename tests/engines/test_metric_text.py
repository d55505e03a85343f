"""METRIC lines as people's programs print them: the right number, or none and the line that could not be read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightlab.engines.local.metric_text import parse_claims, parse_feedback, parse_metrics, parse_number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("METRIC m=0.5\r\n", 0.5),
        ("\x1b[32mMETRIC m=0.5\x1b[0m", 0.5),
        ("METRIC m = 0.5", 0.5),
        ("  METRIC m=0.5", 0.5),
        ("METRIC m=15,200.5", 15200.5),
        ("METRIC m=2.000x", 2.0),
        ("METRIC m=41.0%", 41.0),
        ("METRIC m=5 tok/s", 5.0),
        ("METRIC m=np.float64(1.14)", 1.14),
        ("METRIC m=tensor(0.25, device='cuda:0')", 0.25),
        ("METRIC m='0.5'", 0.5),
        ("INFO:root:METRIC m=0.5", 0.5),
        ("2026-11-28 12:00:00,123 INFO METRIC m=0.5", 0.5),
        ("2026-11-28 12:00:00,123 - app.run - INFO - METRIC m=0.5", 0.5),
        ("[rank0]: METRIC m=0.5", 0.5),
        ("METRIC m=9\n 10%|#   |\r 90%|### |\r          \rMETRIC m=0.5\n", 0.5),
        ("METRIC m=9\n\x1b[2K\rMETRIC m=0.5", 0.5),
    ],
)
def test_the_number_is_the_one_that_was_printed(text: str, value: float) -> None:
    found = parse_metrics(text)
    assert (found.values, found.unreadable) == ({"m": value}, {})


@pytest.mark.parametrize("last", ["nan", "inf", "", "oops", "1,5", "15.2k", "1 b=2", "1_000", "0.5.1"])
def test_a_last_line_that_cannot_be_read_voids_the_name(last: str) -> None:
    found = parse_metrics(f"METRIC other=1\nMETRIC m=9\nMETRIC m={last}\n")
    assert found.values == {"other": 1.0}
    assert found.unreadable["m"] == f"METRIC m={last}"


@pytest.mark.parametrize("line", ["output: METRIC m=3", "said 'METRIC m=3'", "INFO answer METRIC m=3", "xMETRIC m=3"])
def test_a_line_that_a_program_repeats_is_not_its_own(line: str) -> None:
    assert parse_metrics(line).values == {}


@pytest.mark.parametrize("name", ["val/loss", "top-1", "a.b", "total_µs"])
def test_names(name: str) -> None:
    assert parse_metrics(f"METRIC {name}=1").values == {name: 1.0}


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("0.5 ms", "", 0.0005),
        ("0.5 ms", "ms", 0.5),
        ("900 µs", "ms", 0.9),
        ("1.2s", "ms", 1200),
        ("2 GiB", "MB", 2147.483648),
    ],
)
def test_a_program_that_changes_its_unit_half_way_is_converted(text: str, unit: str, value: float) -> None:
    assert parse_number(text, unit) == pytest.approx(value)


@given(
    st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["{!r}", "{!r} ms", "{!r}%", "np.float64({!r})"])
)
def test_any_number_comes_back(number: float, form: str) -> None:
    assert parse_number(form.format(number), "ms") == number


def test_the_message_quotes_the_line(make_lab: Any, nightlab: Any) -> None:
    lab = make_lab()
    lab.write("measure.py", "print('METRIC loss=9')\nprint('METRIC loss=oops')\n")
    lab.commit()
    done = nightlab("run", "-n", "1", "--allow-missing", "all", cwd=lab)
    assert done.code == 1 and "METRIC loss=oops" in done.err


@pytest.mark.parametrize(
    ("text", "value", "error", "counts"),
    [
        ("0.61 ± 0.02", 0.61, 0.02, None),
        ("0.61+/-0.02", 0.61, 0.02, None),
        ("-0.61 +- 2e-2", -0.61, 0.02, None),
        ("1,200 ± 30 ms", 1200, 30, None),
        ("1.2 s ± 0.03", 1200, 30, None),
        ("41.0% ± 1.5%", 41, 1.5, None),
        ("5 ± 0", 5, 0, None),
        ("61/100", 0.61, 0.0488, (61, 100)),
        ("1,061 / 2,000", 0.5305, 0.01116, (1061, 2000)),
        ("100/100", 1.0, 0.00702, (100, 100)),
    ],
)
def test_a_number_with_its_own_precision(text: str, value: float, error: float, counts: tuple[int, int] | None) -> None:
    found = parse_metrics(f"METRIC m={text}\n", {"m": "ms"})
    assert found.values["m"] == pytest.approx(value) and not found.unreadable
    assert found.stated["m"].error == pytest.approx(error, rel=1e-3) and found.stated["m"].counts == counts


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0.61 ± nan", "a standard error is a number that is not negative"),
        ("0.61 ± -0.1", "a standard error is a number that is not negative"),
        ("0.61 ±", "a standard error is a number that is not negative"),
        ("120/100", "there are more successes than trials"),
        ("0/0", "there are no trials"),
        ("1/99999999999999999999", "there are too many trials"),
        ("nan ± 0.1", ""),
        ("-1/10", ""),
        ("± 0.1", ""),
    ],
)
def test_a_precision_that_can_not_be_voids_the_name_and_says_why(text: str, why: str) -> None:
    found = parse_metrics(f"METRIC m=1 ± 0.5\nMETRIC m={text}\n")
    assert found.values == found.stated == {}
    assert found.unreadable["m"] == f"METRIC m={text}" + (f" ({why})" if why else "")


def test_feedback_is_the_lines_that_say_so_within_a_limit() -> None:
    text = "FEEDBACK too wide\nsay FEEDBACK no\n| FEEDBACK no\nFEEDBACK\nFEEDBACK  \x1b[1mlook\u202e \nMETRIC a=1\n"
    assert parse_feedback(text) == "too wide\nlook"
    assert parse_feedback("") == ""
    assert len(parse_feedback("FEEDBACK x\n" * 9000)) < 4100


def test_a_flood_of_names_is_not_recorded() -> None:
    flood = "".join(f"METRIC m{n}=1\nclaim{n}: 1\n" for n in range(3000)) + f"METRIC {'x' * 9000}=1\nMETRIC loss=2\n"
    found = parse_metrics(flood, {"loss": ""}).values
    assert found["loss"] == 2 and len(found) == 1001 and max(map(len, found)) < 10
    assert len(parse_claims(flood)) == 1000


def test_a_flood_of_names_drops_none_that_is_known() -> None:
    flood = "METRIC m=1\nMETRIC n=1\n" + "".join(f"METRIC m{k}=1\nMETRIC u{k}=?\n" for k in range(3000))
    found = parse_metrics(f"{flood}METRIC m=2\nMETRIC n=?\nMETRIC u1=3\nMETRIC new=4\n")
    assert found.values["m"] == 2 and found.unreadable["n"] == "METRIC n=?" and found.values["u1"] == 3
    assert "new" not in found.values and len(found.values) + len(found.unreadable) == 1000
    claims = parse_claims("".join(f"c{k}: 1\n" for k in range(3000)) + "loss: 2\n", "loss")
    assert claims["loss"] == 2 and len(claims) == 1001
