"""Search spaces as people write them, and points written back as overrides."""

from __future__ import annotations

import json
import random

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st

from darts_hpo.errors import SpaceError
from darts_hpo.space import Categorical, Condition, Float, Int, Space
from darts_hpo.tuning.grammar import override_name, read_space
from darts_hpo.tuning.overrides import override_value


def read_back(text: str):
    """What Hydra makes of an override's value."""
    return OverridesParser.create().parse_override(f"key={text}").value()


def one(text):
    """The single parameter of a range."""
    return read_space({"p": text}).space["p"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("interval(0,1)", Float(0.0, 0.999999)),
        ("tag(log, interval(1e-4,1e-1))", Float(1e-4, 0.0999999001, log=True)),
        ("int(interval(16,512))", Int(16, 512)),
        ("tag(int, interval(16,512))", Int(16, 512)),
        ("int(tag(log,interval(16,512)))", Int(16, 512, log=True)),
        ("tag(log,int,interval(16,512))", Int(16, 512, log=True)),
        ("range(1,10)", Int(1, 9)),
        ("tag(log, range(1,101))", Int(1, 100, log=True)),
        ("range(1,10,2)", Categorical((1, 3, 5, 7, 9))),
        ("range(0,1,0.25)", Categorical((0.0, 0.25, 0.5, 0.75))),
        ("range(3,0,-1)", Categorical((3, 2, 1))),
        ("choice(a,b)", Categorical(("a", "b"))),
        ("a,b", Categorical(("a", "b"))),
        ("choice(1,1.0,true,'1')", Categorical((1, 1.0, True, "1"))),
        ("choice([1,2],{a:1})", Categorical(("[1,2]", "{a:1}"))),
        ("3x3_silu,5x5_gelu", Categorical(("3x3_silu", "5x5_gelu"))),
        ({"_type": "loguniform", "_value": [1e-4, 0.1]}, Float(1e-4, 0.0999999001, log=True)),
        ({"_type": "uniform", "_value": [0, 1]}, Float(0.0, 0.999999)),
        ({"_type": "randint", "_value": [0, 10]}, Int(0, 9)),
        ({"_type": "randint", "_value": [3, 4]}, Categorical((3,))),
        ({"_type": "quniform", "_value": [1, 9, 1]}, Int(1, 9)),
        ({"_type": "quniform", "_value": [0, 1, 0.25]}, Categorical((0, 0.25, 0.5, 0.75, 1))),
        ({"_type": "quniform", "_value": [0.1, 0.35, 0.1]}, Categorical((0.1, 0.2, 0.3, 0.35))),
        ({"_type": "qloguniform", "_value": [16, 512, 1]}, Int(16, 512, log=True)),
        ({"_type": "choice", "_value": ["a", 1, True]}, Categorical(("a", 1, True))),
        ({"type": "int", "low": 1, "high": 5, "log": True}, Int(1, 5, log=True)),
    ],
)
def test_ranges(text, expected):
    assert one(text) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("interval(1,1)", r"'p'.*\[1.0, 1.0\] is empty.*p=interval\(0,1\)"),
        ("interval(2,1)", "is empty"),
        ("int(interval(5,5))", r"is empty.*p=int\(interval"),
        ("tag(log,interval(0,1))", r"cannot start at 0.0.*tag\(log,interval\(1e-4,1e-1\)\)"),
        ("range(3,1)", r"range\(3,1,1\) is empty"),
        ("range(0,5,0)", "never ends"),
        ("range(0,1000000,7)", "more than 1000 values"),
        ("tag(lgo,interval(0,1))", "Unknown tag: 'lgo'. Did you mean 'log'"),
        ("tag(log,choice(1,2))", "takes no tag"),
        ("choice(a,a)", "'a' is given twice"),
        ("loguniform(1e-4,1e-1)", r"no loguniform\(...\); write for example p=tag\(log,interval\(1e-4,1e-1\)\)"),
        ("interval(1", "cannot be read"),
        ("glob(*)", "list the options"),
        ({"_type": "logunifrm", "_value": [1, 2]}, "Did you mean 'loguniform'"),
        ({"_type": "lognormal", "_value": [0, 1]}, "no bounds. Use 'loguniform'.*hydra.sweeper.belief"),
        ({"_type": "uniform", "_value": [0]}, r"expected \[lower, upper\]"),
        ({"_type": "quniform", "_value": [0, 1]}, r"expected \[lower, upper, step\]"),
        ({"_type": "quniform", "_value": [0, 1, 0]}, "positive step"),
        ({"_type": "qloguniform", "_value": [1, 100, 5]}, "step 1"),
        ({"_type": "uniform", "_value": ["0", 1]}, r"expected \[lower, upper\]"),
        ({"_type": "uniform"}, "expected a list"),
        ({"_type": "uniform", "_value": [0, 0]}, "is empty"),
        ({"_type": "choice", "_value": []}, "at least one option"),
        ({"_type": "choice", "_value": [{"_name": "sgd", "momentum": 0.9}]}, "'p.momentum' is 0.9"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_to_type(text, complaint):
    with pytest.raises(SpaceError, match=complaint):
        read_space({"p": text})


def test_the_upper_end_of_an_interval_is_never_proposed():
    momentum = one("interval(0,1)")
    assert max(momentum.from_unit(1.0), momentum.high) < 1.0
    assert one("interval(1e9,1000000001)").high < 1000000001
    tiny = one("interval(1.0,1.0000000000000004)")
    assert 1.0 < tiny.high < 1.0000000000000004


def test_the_command_line_wins_over_the_configuration():
    params = {"lr": "interval(0,1)", "momentum": "interval(0,1)", "+epochs": 3, "widths": [1, 2]}
    sweep = read_space(params, ["+momentum=choice(0.5,0.9)", "seed=1", "depth=1,2"])
    assert dict(sweep.space.parameters) == {
        "lr": Float(0.0, 0.999999),
        "momentum": Categorical((0.5, 0.9)),
        "depth": Categorical((1, 2)),
    }
    assert sweep.fixed == ("+epochs=3", "widths=[1,2]")
    assert sweep.overrides({"lr": 1e-5, "momentum": 0.9, "depth": 2}) == [
        "+epochs=3",
        "widths=[1,2]",
        "lr=1e-05",
        "+momentum=0.9",
        "depth=2",
    ]


def test_a_single_value_on_the_command_line_is_not_tuned():
    sweep = read_space({"lr": "interval(0,1)", "momentum": "interval(0,1)", "epochs": 3}, ["++lr=0.1", "epochs=4"])
    assert list(sweep.space) == ["momentum"]
    assert sweep.fixed == ()


def test_a_parameter_given_twice_is_refused():
    with pytest.raises(SpaceError, match="'lr' is given twice"):
        read_space({}, ["lr=interval(0,1)", "+lr=1,2"])


def test_nothing_to_tune():
    with pytest.raises(SpaceError, match="nothing to tune"):
        read_space({"lr": 0.1}, ["seed=1"])


def test_groups_of_a_configuration_are_listed_by_glob():
    options = {"model": ["resnet", "vgg", "vit"]}
    sweep = read_space({}, ["model=glob(v*)"], group_options=lambda group: options[group])
    assert sweep.space["model"] == Categorical(("vgg", "vit"))


def test_the_slides_search_space_unchanged():
    document = json.loads(
        '{"lr": {"_type": "loguniform", "_value": [0.0001, 0.1]}, "momentum": {"_type": "uniform", "_value": [0, 1]}}'
    )
    space = read_space(search_space=document).space
    assert dict(space.parameters) == {"lr": Float(1e-4, 0.0999999001, log=True), "momentum": Float(0.0, 0.999999)}


def test_a_nested_choice_gives_conditions():
    document = {
        "optimizer": {
            "_type": "choice",
            "_value": [
                {"_name": "sgd", "lr": {"_type": "uniform", "_value": [0, 1]}, "nesterov": _choice(True, False)},
                {"_name": "adam", "lr": {"_type": "uniform", "_value": [0, 1]}},
                "lbfgs",
            ],
        }
    }
    space = read_space(search_space=document).space
    assert list(space) == ["optimizer", "optimizer.lr", "optimizer.nesterov"]
    assert set(space.conditions) == {
        Condition("optimizer.lr", "optimizer", ("sgd", "adam")),
        Condition("optimizer.nesterov", "optimizer", ("sgd",)),
    }
    assert space.validate({"optimizer": "lbfgs"}) == {"optimizer": "lbfgs"}


def _choice(*options):
    return {"_type": "choice", "_value": list(options)}


def test_two_ranges_under_one_name_are_refused():
    options = [
        {"_name": "sgd", "lr": {"_type": "uniform", "_value": [0, 1]}},
        {"_name": "adam", "lr": {"_type": "uniform", "_value": [0, 2]}},
    ]
    with pytest.raises(SpaceError, match="'o.lr' has two different ranges"):
        read_space({"o": {"_type": "choice", "_value": options}})


def test_our_own_description_of_a_space():
    space = Space({"a": Categorical((1, 2)), "b": Float(0, 1)}, (Condition("b", "a", (1,)),), ("b < 0.5",))
    assert read_space(search_space=space.to_json()).space == space


def test_a_search_space_file_with_something_else():
    with pytest.raises(SpaceError, match=r"'lr' of the search space is 3.*_type"):
        read_space(search_space={"lr": 3})


def test_conditions_and_constraints():
    params = {"optimizer.momentum": "interval(0,1)", "optimizer.name": "choice(sgd,adam)", "lr": "interval(0,1)"}
    sweep = read_space(
        params,
        conditions={"optimizer.momentum": {"optimizer.name": "sgd"}},
        constraints=["lr * optimizer.momentum <= 0.05"],
    )
    assert list(sweep.space) == ["optimizer.name", "optimizer.momentum", "lr"]  # parents first
    assert sweep.space.active({"optimizer.name": "adam"}) == ["optimizer.name", "lr"]
    assert not sweep.space.satisfies({"optimizer.name": "sgd", "optimizer.momentum": 0.9, "lr": 0.9})


@pytest.mark.parametrize(
    ("conditions", "complaint"),
    [
        ({"momentm": {"name": "a"}}, "conditions: Unknown parameter: 'momentm'. Did you mean 'momentum'"),
        ({"momentum": {"nam": "a"}}, "Unknown parameter: 'nam'"),
        ({"momentum": {"name": "c"}}, "Condition on 'momentum'.*'c'"),
        ({"momentum": {"name": "a"}, "name": {"momentum": 1}}, "circle: momentum -> name -> momentum"),
    ],
)
def test_conditions_that_cannot_hold(conditions, complaint):
    with pytest.raises(SpaceError, match=complaint):
        read_space({"momentum": "choice(1,2)", "name": "choice(a,b)"}, conditions=conditions)


@pytest.mark.parametrize(("chosen", "left"), [("sgd", ["lr", "o.m", "o.k"]), ("adam", ["lr"])])
def test_a_condition_on_a_parameter_that_the_command_line_settles(chosen, left):
    sgd = {"_name": "sgd", "m": _choice({"_name": "high", "k": _choice(1, 2)}, "low")}
    document = {"lr": _choice(1, 2), "o": {"_type": "choice", "_value": [sgd, "adam"]}}
    sweep = read_space(arguments=[f"o={chosen}"], search_space=document)
    assert list(sweep.space) == [name.replace("o.k", "o.m.k") for name in left]
    assert all(condition.parent != "o" for condition in sweep.space.conditions)


def test_options_that_are_no_plain_values_are_typed_as_they_were():
    sweep = read_space({}, ["a=choice([1,'x y'],{k:[true]})", "b=null,1"])
    assert sweep.overrides({"a": "[1,'x y']", "b": "null"}) == ["a=[1,'x y']", "b=null"]
    assert read_back("[1,'x y']") == [1, "x y"]
    assert sweep.overrides({"a": "{k:[true]}", "b": 1}) == ["a={k:[true]}", "b=1"]


TEXTS = ["", " a ", "it's", 'say "x"', "a\\", "a\\'b", "\\\\'", "true", "Null", "1", "1e5", "1_0", "-1", "inf", "3x3"]


@pytest.mark.parametrize(
    "value", [*TEXTS, "${x}", "a,b", "a=b", "a:b", "(", "]", "{", "ü", "/a/b.c", "+a", "a\nb", "#"]
)
def test_text_comes_back_as_it_was(value):
    assert read_back(override_value(value)) == value


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc"))),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.from_regex("[a-z ]+:?[a-z]", fullmatch=True), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(values)
def test_every_value_comes_back_as_it_was(value):
    back = read_back(override_value(value))
    assert back == value
    assert type(back) is type(value)


def test_what_has_no_text_is_refused():
    with pytest.raises(TypeError, match="object"):
        override_value(object())


def test_every_point_of_a_space_is_read_back():
    sweep = read_space(
        {
            "lr": "tag(log,interval(1e-4,1e-1))",
            "+n": "int(interval(1,9))",
            "act": "choice('3x3 silu',3x3_gelu,1,1.0,true)",
        }
    )
    for seed in range(30):
        point = sweep.space.sample(random.Random(seed))
        parsed = OverridesParser.create().parse_overrides(sweep.overrides(point))
        back = {override.key_or_group: override.value() for override in parsed}
        assert sweep.space.validate(back) == point


@pytest.mark.parametrize(
    ("argument", "name"),
    [
        ("lr=1", "lr"),
        ("+lr=1", "lr"),
        ("++a.b=x=y", "a.b"),
        ("~a", "a"),
        ("db@x:y=z", "db@x:y"),
        ("db/kind=a", "db/kind"),
    ],
)
def test_the_name_that_an_override_sets(argument, name):
    assert override_name(argument) == name
