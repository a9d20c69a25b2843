import pytest

from darts_hpo.errors import SpaceError
from quantum import encoders
from quantum.circuit import Circuit, Input
from quantum.encoders import encoder, encoder_names, encoders_that_fit, register_encoder
from quantum.program import Encoding


@pytest.fixture(scope="module")
def torchquantum_encoders():
    from torchquantum.encoding import encoder_op_list_name_dict

    return encoder_op_list_name_dict


def _as_torchquantum(encoding):
    return [
        (op.gate.lower(), list(op.wires), [angle.index for angle in op.angles] or None) for op in encoding.operations
    ]


def test_every_torchquantum_encoder_has_the_same_operations(torchquantum_encoders):
    assert set(torchquantum_encoders) <= set(encoder_names())
    for name, entries in torchquantum_encoders.items():
        n_wires = 1 + max(entry["wires"][0] for entry in entries)
        n_inputs = sum(len(entry.get("input_idx") or []) for entry in entries)
        encoding = encoder(name, n_wires, n_inputs)
        expected = [(entry["func"], entry["wires"], entry.get("input_idx")) for entry in entries]
        assert _as_torchquantum(encoding) == expected, name
        assert encoding.name == name
        assert Circuit(n_wires, encoding.operations).n_inputs == n_inputs


def test_4x4_ryzxy_turns_by_four_features_per_axis():
    operations = encoder("4x4_ryzxy", 4, 16).operations
    assert [op.gate for op in operations] == ["RY"] * 4 + ["RZ"] * 4 + ["RX"] * 4 + ["RY"] * 4
    assert [op.wires[0] for op in operations] == [0, 1, 2, 3] * 4
    assert [op.angles[0].index for op in operations] == list(range(16))


@pytest.mark.parametrize("n_inputs", [1, 3, 7])
def test_angle_puts_feature_i_on_wire_i_mod_n(n_inputs):
    operations = encoder("angle", 3, n_inputs).operations
    assert [(op.gate, op.wires) for op in operations] == [("RY", (i % 3,)) for i in range(n_inputs)]
    assert [op.angles for op in operations] == [(Input(i),) for i in range(n_inputs)]


def test_alternating_angles_take_the_next_axis_on_each_pass():
    gates = [op.gate for op in encoder("angle_ryzx", 2, 7).operations]
    assert gates == ["RY", "RY", "RZ", "RZ", "RX", "RX", "RY"]


def test_phases_start_from_an_even_superposition():
    operations = encoder("angle_h_rz", 2, 2).operations
    assert [(op.gate, op.wires) for op in operations] == [("H", (0,)), ("H", (1,)), ("RZ", (0,)), ("RZ", (1,))]


def test_scale_reaches_every_feature_and_only_features():
    encoding = encoder("4x4_u3_h_rx", 4, 16, scale=0.5)
    angles = [angle for op in encoding.operations for angle in op.angles]
    assert angles == [Input(i, 0.5) for i in range(16)]


def test_spare_wires_stay_alone():
    assert encoder("4_ry", 6, 4) == encoder("4_ry", 4, 4)


def test_amplitude_and_none():
    assert encoder("amplitude", 3, 8) == Encoding("amplitude", amplitude=True)
    assert encoder("amplitude", 3, 5).amplitude
    assert encoder("none", 3, 5) is None


def test_every_name_that_fits_builds_and_reads_all_features():
    names = encoders_that_fit(4, 16)
    assert {"angle", "amplitude", "4x4_ryzxy", "4x4_rzsx", "2x8_ryzxyzxyz"} <= set(names)
    assert "none" not in names
    assert "4_ry" not in names
    for name in names:
        encoding = encoder(name, 4, 16)
        assert Circuit(4, encoding.operations, encoding.amplitude).n_inputs == 16
    assert encoders_that_fit(4, 0) == ("none",)


@pytest.mark.parametrize(
    ("name", "n_wires", "n_inputs", "message"),
    [
        ("4_ry", 4, 16, r"exactly 4 features on at least 4 wires; there are 16 features and 4 wires.*4x4_ryzxy"),
        ("4_ry", 3, 4, r"at least 4 wires; there are 4 features and 3 wires.*angle, "),
        ("amplitude", 3, 9, r"3 wires hold 8 amplitudes, fewer than 9 features; use 4 wires or more"),
        ("angle", 2, 0, r"at least one feature.*fit 0 features on 2 wires: none\."),
        ("4x4_ryxzy", 4, 16, r"Unknown encoder: '4x4_ryxzy'\. Did you mean '4x4_ryzxy'"),
        ("angle", 0, 2, "at least one wire, not 0"),
        ("angle", 2, -1, "cannot take -1 features"),
    ],
)
def test_misfits_say_what_was_wrong_and_what_fits(name, n_wires, n_inputs, message):
    with pytest.raises(SpaceError, match=message):
        encoder(name, n_wires, n_inputs)


def test_scale_must_be_finite():
    with pytest.raises(SpaceError, match="finite"):
        encoder("angle", 2, 2, scale=float("nan"))


def test_registry_is_open_and_names_are_unique(monkeypatch):
    monkeypatch.setattr(encoders, "_REGISTRY", dict(encoders._REGISTRY))
    register_encoder("mine", lambda n_wires, n_inputs, scale: Encoding("", encoder("angle", 1, 1, scale).operations))
    assert encoder("mine", 5, 5, 2.0).name == "mine"
    assert encoder("mine", 5, 5, 2.0).operations[0].angles == (Input(0, 2.0),)
    with pytest.raises(SpaceError, match="registered already"):
        register_encoder("mine", lambda n_wires, n_inputs, scale: None)
