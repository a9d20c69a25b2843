import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darts_hpo.errors import GenotypeError
from darts_hpo.genotype import SCHEMA_VERSION, Genotype
from darts_hpo.space import Categorical, Space

SPACE = Space({"neck.p4": Categorical(("3x3_silu", "5x5_relu")), "neck.p5": Categorical(("3x3_silu", "5x5_relu"))})
CHOICES = {"neck.p5": "5x5_relu", "neck.p4": "3x3_silu"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-100, 100) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def _genotype(choices=CHOICES, **facts):
    return Genotype("tiny", SPACE.id, choices, facts)


@settings(deadline=None)
@given(
    st.dictionaries(st.text(min_size=1), st.text()),
    st.dictionaries(st.text().filter(lambda k: k not in Genotype("", "", {}).to_json()), JSON, max_size=4),
)
def test_json_round_trip(choices, facts):
    genotype = Genotype("tiny", "0123", choices, facts)
    restored = Genotype.from_json(json.loads(json.dumps(genotype.to_json())))
    assert restored == genotype
    assert restored.facts == facts
    assert restored.id == genotype.id


def test_identity_is_the_architecture():
    genotype = _genotype()
    assert genotype == _genotype(dict(reversed(CHOICES.items())), entropy=0.3)
    assert hash(genotype) == hash(_genotype(entropy=0.3))
    assert genotype.id == _genotype(seed=1).id
    assert list(genotype.choices) == sorted(CHOICES)
    other = _genotype({**CHOICES, "neck.p4": "5x5_relu"})
    assert other != genotype
    assert other.id != genotype.id
    assert Genotype("tiny", "another space", CHOICES).id != genotype.id


def test_ids_never_change():
    """Reports and file names carry it."""
    assert Genotype("tiny", "0123", {"b": "y", "a": "x"}).id == "a5a0c83b3aea"


def test_a_genotype_is_its_own():
    choices = dict(CHOICES)
    genotype = _genotype(choices)
    choices["neck.p4"] = "changed"
    assert genotype.choices["neck.p4"] == "3x3_silu"
    with pytest.raises(AttributeError):
        genotype.space = "other"


def test_load(tmp_path):
    path = tmp_path / "genotype.json"
    path.write_text(json.dumps(_genotype(seed=3).to_json()))
    loaded = Genotype.load(path)
    assert loaded == _genotype()
    assert loaded.facts == {"seed": 3}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[]", "JSON object; found a list"),
        (b"{}", "schema_version None"),
        (json.dumps({"schema_version": SCHEMA_VERSION + 1}).encode(), "Upgrade darts-hpo"),
        (
            json.dumps({"schema_version": 1, "space": "s", "space_id": "0"}).encode(),
            "lacks the key 'choices'",
        ),
        (
            json.dumps({"schema_version": 1, "space": "s", "space_id": "0", "choices": []}).encode(),
            "'choices' is an object",
        ),
        (
            json.dumps({"schema_version": 1, "space": "s", "space_id": "0", "choices": {"a": 1}}).encode(),
            "'choices' is an object",
        ),
    ],
)
def test_unreadable_files_are_refused_by_name(tmp_path, content, message):
    path = tmp_path / "genotype.json"
    path.write_bytes(content)
    with pytest.raises(GenotypeError, match=message) as error:
        Genotype.load(path)
    assert str(path) in str(error.value)


def test_absent_files_are_refused_by_name(tmp_path):
    with pytest.raises(GenotypeError, match=r"no genotype at .*genotype\.json"):
        Genotype.load(tmp_path / "genotype.json")
    with pytest.raises(GenotypeError, match="cannot be read"):
        Genotype.load(tmp_path)


def test_facts_cannot_hide_the_genotype():
    with pytest.raises(GenotypeError, match="cannot be called 'choices'"):
        Genotype("s", "0", {}, {"choices": {}})


def test_require_space():
    _genotype().require_space("tiny", SPACE)
    with pytest.raises(GenotypeError, match=r"does not fit the space 'tiny'.*Did you mean '3x3_silu'"):
        _genotype({**CHOICES, "neck.p4": "3x3_sliu"}).require_space("tiny", SPACE)
    with pytest.raises(GenotypeError, match=r"'neck\.p5' has no value"):
        _genotype({"neck.p4": "3x3_silu"}).require_space("tiny", SPACE)


def test_a_foreign_genotype_says_where_it_differs():
    foreign = Space({"neck.p4": SPACE["neck.p4"], "neck.p6": SPACE["neck.p5"]})
    genotype = Genotype("other", foreign.id, {"neck.p4": "3x3_silu", "neck.p6": "3x3_silu"})
    with pytest.raises(GenotypeError) as error:
        genotype.require_space("tiny", SPACE)
    for part in ("'other'", foreign.id, "'tiny'", SPACE.id, "neck.p5, neck.p6"):
        assert part in str(error.value)
