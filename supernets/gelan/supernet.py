"""GELAN networks whose blocks are searched: kernel size and activation of every block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, Literal, TypeAlias

from torch import Tensor, nn

from darts_hpo.errors import ConfigError, SpaceError, unknown_name
from darts_hpo.genotype import Genotype
from darts_hpo.space import Categorical, Space
from darts_hpo.supernet import CostUnit, Gate, Gates, MixedOp, Supernet
from supernets.detection.image_size import check_image_size
from supernets.detection.predictions import DetectorOutput
from supernets.gelan.description import Description, load_description
from supernets.gelan.entangled import EntangledBlock
from supernets.gelan.fuse import fuse
from supernets.gelan.graph import GelanNetwork
from supernets.gelan.options import BLOCK_OPTIONS, REFERENCE_OPTION, TANGO_OPTIONS, BlockOption

WeightSharing: TypeAlias = Literal["none", "entangled"]

KERNEL, ACTIVATION = "kernel", "act"

PRESETS = ("deployed", "tango", "none")
"""Names of sets of searched blocks."""


class GelanSupernet(Supernet):
    """A GELAN or YOLOv9 network with open blocks.

    Which blocks are searched (``searched``):

    - ``deployed``: every RepNCSPELAN4 and ELAN1 block of backbone and neck, hence of the network that is
      deployed; eight in the layouts t to c. (ELAN1, the first block of t and s, has the same two k x k
      convolutions to choose for and is searched like the others; at stride 4 its kernel is among the most
      expensive, which a cost sees.)
    - ``tango``: the four neck and four auxiliary blocks of TANGO's YOLOv9-NAS, in the layouts m, c and base
      of YOLOv9 form, also known as ``m_13`` to ``m_37``. Half of them never reach the deployed network.
    - ``none``: no block; the hand-made network is all there is.
    - a list of roles, such as ``["backbone.p4", "neck.p3"]``.

    An auxiliary block that is not searched itself follows its twin, where that is searched and of the same
    shape: it has weights of its own and takes the same option. Other blocks stay 3x3 with the network's
    activation.

    Two ways to share weights:

    - ``none``: one choice per block, whose options are whole blocks with weights of their own (DARTS,
      ProxylessNAS).
    - ``entangled``: all options of a block in one set of weights (:mod:`supernets.gelan.entangled`), with two
      choices per block, ``<role>.kernel`` and ``<role>.act``. The options must be all combinations of some
      kernels and some activations. A gate's weights enter one differentiable forward pass, so a probed path
      costs no recomputation: its gradient is the exact derivative of that pass at the one-hot point.

    Both have the same genotypes, one option per role, and derive to the same plain networks.

    Args:
        network: name or path of a layout, or the layout itself.
        num_classes: number of classes.
        input_shape: shape of one image, `(C, H, W)`, for the costs; height and width multiples of 32.
        searched: which blocks.
        options: names of :data:`~supernets.gelan.options.BLOCK_OPTIONS`.
        weight_sharing: how options share weights.
        width: multiplier of all channels.
        activation: of all that is not searched, by name.

    Raises:
        ConfigError: a name is unknown, or the layout does not have what ``searched`` asks for.
        SpaceError: the options repeat, or cannot be entangled.
    """

    def __init__(
        self,
        network: str | Description,
        num_classes: int,
        input_shape: Sequence[int] = (3, 640, 640),
        *,
        searched: str | Sequence[str] = "deployed",
        options: Sequence[str] = TANGO_OPTIONS,
        weight_sharing: WeightSharing = "none",
        width: float = 1.0,
        activation: str = "silu",
    ) -> None:
        super().__init__()
        if not isinstance(network, str | Description):
            raise ConfigError(f"supernet.network={network!r}: expected the name or path of a layout.")
        if not isinstance(searched, str) and not _are_names(searched):
            raise ConfigError(f"supernet.searched={searched!r}: expected {', '.join(PRESETS)} or a list of roles.")
        if not _are_names(options):
            raise ConfigError(f"supernet.options={options!r}: expected a list of names such as {REFERENCE_OPTION}.")
        description = load_description(network) if isinstance(network, str) else network
        self.input_shape = tuple(input_shape)
        self.weight_sharing = weight_sharing
        if weight_sharing not in ("none", "entangled"):
            raise ConfigError(unknown_name("weight_sharing", weight_sharing, ("none", "entangled")))
        self.options: dict[str, BlockOption] = {name: BLOCK_OPTIONS[name] for name in options}
        if len(self.options) != len(options) or not options:
            raise SpaceError(f"The options {list(options)} are empty or repeat; name every option once.")
        self.network = GelanNetwork(
            description,
            num_classes,
            width=width,
            activation=activation,
            in_channels=self.input_shape[0],
        )
        check_image_size(self.input_shape[1:], max(self.network.strides))
        self.roles = _searched_roles(self.network, searched)
        """Roles that have a choice, in order of execution."""
        self.name = f"{description.name}/{searched if isinstance(searched, str) else 'custom'}"
        self.tied = _ties(self.network, self.roles)
        """Auxiliary role to the searched role whose option it takes."""
        self.aliases = {n.alias: n.role for n in self.network.nodes if n.alias and n.role in self.roles}
        """Other names of choices."""
        joint = Categorical(tuple(self.options))
        self._joint_space = Space(dict.fromkeys(self.roles, joint))
        if weight_sharing == "entangled":
            self.kernels, self.activations = _factors(self.options)
            self._space = Space(
                {
                    f"{role}.{factor}": Categorical(values)
                    for role in self.roles
                    for factor, values in (
                        (KERNEL, tuple(f"{k}x{k}" for k in self.kernels)),
                        (ACTIVATION, self.activations),
                    )
                }
            )
        else:
            self._space = self._joint_space
        for role in (*self.roles, *self.tied):
            self.network.set_submodule(role, self._searched_block(role))
        _own_trained_parameters_only(self.network)

    def _searched_block(self, role: str) -> nn.Module:
        if self.weight_sharing == "entangled":
            return EntangledBlock(lambda option: self.network.build_block(role, option), self.kernels, self.activations)
        return MixedOp(
            self.tied.get(role, role),
            {name: self.network.build_block(role, option) for name, option in self.options.items()},
        )

    # -- spaces ----------------------------------------------------------------------------------------------

    @property
    def space(self) -> Space:
        """One choice per searched block, or two where weights are entangled."""
        return self._space

    @property
    def genotype_space(self) -> Space:
        """One choice per searched block, over the joint options."""
        return self._joint_space

    def reference_choices(self) -> dict[str, str]:
        """Every block 3x3 SiLU, as YOLOv9 has it; the first option where that is not among them."""
        option = REFERENCE_OPTION if REFERENCE_OPTION in self.options else next(iter(self.options))
        return self._split(dict.fromkeys(self.roles, option))

    def genotype(self, choices: Mapping[str, str], facts: Mapping[str, Any] | None = None) -> Genotype:
        """The genotype of complete choices: joint options, and in its facts the whole network."""
        joint = self._join(self._validated(choices))
        network = {
            "name": self.network.name,
            "num_classes": self.network.num_classes,
            "width": self.network.width,
            "activation": self.network.activation,
            "blocks": {
                role: {"kernel": option.kernel, "activation": option.activation}
                for role, option in self._block_options(joint).items()
            },
        }
        return Genotype(self.name, self.genotype_space.id, joint, {"network": network, **(facts or {})})

    def choices(self, genotype: Genotype) -> dict[str, str]:
        """The choices of :attr:`space` that a genotype stands for."""
        genotype.require_space(self.name, self.genotype_space)
        return self._split(genotype.choices)

    def resolve_choice(self, name: str) -> tuple[str, ...]:
        """The choices that a name stands for: a choice itself, a role, or an alias such as ``m_13``.

        Raises:
            SpaceError: the name is unknown.
        """
        if name in self.space:
            return (name,)
        role = self._role(name)
        return tuple(choice for choice in self.space if choice == role or choice.startswith(f"{role}."))

    def fixed_choices(self, name: str, option: str) -> dict[str, str]:
        """The choices that ``search.fixed.<name>=<option>`` sets.

        Args:
            name: a choice, a role or an alias.
            option: an option of that choice; of a role or alias, a joint option such as ``5x5_mish``, also given by
                its position among the options, as TANGO writes it.

        Raises:
            SpaceError: the name or the option is unknown.
        """
        if name in self.space and self.weight_sharing == "entangled":
            return super().fixed_choices(name, option)
        role = self._role(name)
        if option not in self.options and option.isdecimal() and int(option) < len(self.options):
            option = list(self.options)[int(option)]
        if option not in self.options:
            raise SpaceError(unknown_name(f"option in search.fixed.{name}", option, self.options))
        return self._split({role: option})

    def genotype_probabilities(self, probabilities: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
        """Probability of every joint option of every role; kernel and activation are drawn independently."""
        marginal = super().genotype_probabilities(probabilities)
        if self.weight_sharing == "none":
            return marginal
        return {
            role: {
                name: marginal[f"{role}.{KERNEL}"][f"{option.kernel}x{option.kernel}"]
                * marginal[f"{role}.{ACTIVATION}"][option.activation]
                for name, option in self.options.items()
            }
            for role in self.roles
        }

    def _role(self, name: str) -> str:
        role = self.aliases.get(name, name)
        if role not in self.roles:
            valid = (*self.space, *self.roles, *self.aliases)
            raise SpaceError(unknown_name(f"choice of {self.name}", name, dict.fromkeys(valid)))
        return role

    def _split(self, joint: Mapping[str, str]) -> dict[str, str]:
        """Joint options, by role, as choices of :attr:`space`."""
        if self.weight_sharing == "none":
            return dict(joint)
        choices = {}
        for role, name in joint.items():
            option = self.options[name]
            choices[f"{role}.{KERNEL}"] = f"{option.kernel}x{option.kernel}"
            choices[f"{role}.{ACTIVATION}"] = option.activation
        return choices

    def _join(self, choices: Mapping[str, str]) -> dict[str, str]:
        """Choices of :attr:`space` as joint options, for the roles whose choices are all there."""
        if self.weight_sharing == "none":
            return dict(choices)
        names = {(f"{o.kernel}x{o.kernel}", o.activation): name for name, o in self.options.items()}
        return {
            role: names[choices[f"{role}.{KERNEL}"], choices[f"{role}.{ACTIVATION}"]]
            for role in self.roles
            if f"{role}.{KERNEL}" in choices and f"{role}.{ACTIVATION}" in choices
        }

    def _block_options(self, joint: Mapping[str, str]) -> dict[str, BlockOption]:
        """Option of every searched and tied block."""
        options = {role: self.options[joint[role]] for role in self.roles}
        return options | {role: options[twin] for role, twin in self.tied.items()}

    # -- networks --------------------------------------------------------------------------------------------

    def forward(self, x: Tensor, gates: Gates) -> DetectorOutput | Tensor:
        """Detect with mixed blocks.

        Args:
            x: `B x C x H x W`, height and width multiples of 32.
            gates: one per choice of :attr:`space`.

        Returns:
            As :class:`~supernets.gelan.graph.GelanNetwork`.
        """
        self.check_gates(gates)
        extra: dict[str, tuple[Gate, ...]] = {}
        for role in (*self.roles, *self.tied):
            twin = self.tied.get(role, role)
            extra[role] = tuple(gates[choice] for choice in self._choices_of(twin))
        return self.network.run(x, extra)

    def _choices_of(self, role: str) -> tuple[str, ...]:
        if self.weight_sharing == "none":
            return (role,)
        return (f"{role}.{KERNEL}", f"{role}.{ACTIVATION}")

    def derive(self, genotype: Genotype, *, inherit_weights: bool = False) -> GelanNetwork:
        """The plain network of a genotype; YOLOv9 form keeps its auxiliary branch.

        Args:
            genotype: of :attr:`genotype_space`.
            inherit_weights: copy weights and statistics, so that the network equals the supernet at one-hot
                gates; statistics of a mixture fit no single architecture, so recalibrate BatchNorm
                (:func:`darts_hpo.normalization.recalibrate_batchnorm`) before judging it.

        Raises:
            GenotypeError: the genotype belongs to another space.
        """
        genotype.require_space(self.name, self.genotype_space)
        options = self._block_options(genotype.choices)
        network = GelanNetwork(
            self.network.description,
            self.network.num_classes,
            width=self.network.width,
            activation=self.network.activation,
            options=options,
            in_channels=self.network.in_channels,
        ).to(next(self.parameters()))
        if inherit_weights:
            state = self.network.state_dict()
            for role, option in options.items():
                for key in [key for key in state if key.startswith(f"{role}.")]:
                    del state[key]
                state |= {f"{role}.{key}": value for key, value in self._plain_state(role, option).items()}
            network.load_state_dict(state)
        return network

    def _plain_state(self, role: str, option: BlockOption) -> Mapping[str, Tensor]:
        block = self.network.get_submodule(role)
        if isinstance(block, EntangledBlock):
            return block.plain_state(option)
        assert isinstance(block, MixedOp)
        return block.option(list(self.options.values()).index(option)).state_dict()

    def cost_units(self) -> list[CostUnit]:
        """One unit per searched block of the deployed network; auxiliary blocks cost nothing there."""
        units = []
        for role in self.roles:
            if role.startswith("auxiliary."):
                continue
            feature = self.network.input_feature(role)
            height, width = (side // feature.stride for side in self.input_shape[1:])

            def build(choices: Mapping[str, str], role: str = role) -> nn.Module:
                option = self.options[self._join(choices)[role]]
                return fuse(self.network.build_block(role, option))

            units.append(CostUnit(role, self._choices_of(role), build, (feature.channels[0], height, width)))
        return units

    # -- health ----------------------------------------------------------------------------------------------

    def collapse_indicators(self, probabilities: Mapping[str, Tensor]) -> dict[str, float]:
        """Signs that a search prefers capacity or follows one global habit instead of choosing per block.

        Args:
            probabilities: choice to the probabilities of its options; choices may be left out.

        Returns:
            ``largest_kernel_share``, the mean probability of the largest kernel over the blocks, in [0, 1];
            ``option_agreement``, the share of blocks whose most probable option is the most common one, in
            (0, 1]. Nothing where no block's choices are given.
        """
        largest = max(option.kernel for option in self.options.values())
        shares: list[float] = []
        chosen: dict[str, str] = {}
        for name, values in probabilities.items():
            names = [str(option) for option in self.space.categorical(name).options]
            chosen[name] = names[int(values.argmax())]
            if self.weight_sharing == "none":
                has_largest = [self.options[option].kernel == largest for option in names]
            else:
                has_largest = [option == f"{largest}x{largest}" for option in names]
            if self.weight_sharing == "none" or name.endswith(f".{KERNEL}"):
                shares.append(sum(float(p) for p, yes in zip(values, has_largest, strict=True) if yes))
        indicators = {}
        if shares:
            indicators["largest_kernel_share"] = sum(shares) / len(shares)
        joint = self._join(chosen)
        if joint:
            indicators["option_agreement"] = Counter(joint.values()).most_common(1)[0][1] / len(joint)
        return indicators


def _are_names(value: object) -> bool:
    """Whether a value is a list of texts."""
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(v, str) for v in value)


def _searched_roles(network: GelanNetwork, searched: str | Sequence[str]) -> tuple[str, ...]:
    candidates = network.searchable_roles
    if searched == "deployed":
        return tuple(role for role in candidates if not role.startswith("auxiliary."))
    if searched == "tango":
        roles = tuple(node.role for node in network.nodes if node.alias and node.role in candidates)
        if not any(role.startswith("auxiliary.") for role in roles):
            raise ConfigError(
                "searched=tango needs the neck and the auxiliary branch of yolov9-m, -c or -base; "
                f"{network.name} is laid out differently. Use one of those, or searched=deployed."
            )
        return roles
    if searched == "none":
        return ()
    if isinstance(searched, str):
        raise ConfigError(unknown_name("set of searched blocks", searched, PRESETS) + " Or list roles.")
    for role in searched:
        network.require_searchable(role)
    if not searched:
        raise ConfigError("searched is an empty list; name at least one block, or use searched=none.")
    return tuple(role for role in candidates if role in set(searched))


def _own_trained_parameters_only(network: nn.Module) -> None:
    """Turn fixed parameters into buffers of the same name: a supernet's parameters are what a search trains."""
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if not parameter.requires_grad:
                delattr(module, name)
                module.register_buffer(name, parameter.detach())


def _ties(network: GelanNetwork, roles: Sequence[str]) -> dict[str, str]:
    """Auxiliary blocks that take the option of their searched twin: of the same kind, arguments and input."""
    ties = {}
    by_role = {node.role: node for node in network.nodes}
    for node in network.nodes:
        if node.twin is None or node.twin not in roles or node.role in roles:
            continue
        twin = by_role[node.twin]
        same = (node.block, dict(node.arguments)) == (twin.block, dict(twin.arguments))
        if same and network.input_feature(node.role) == network.input_feature(twin.role):
            ties[node.role] = twin.role
    return ties


def _factors(options: Mapping[str, BlockOption]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Kernels, ascending, and activations whose combinations the options are."""
    kernels = tuple(sorted({option.kernel for option in options.values()}))
    activations = tuple(dict.fromkeys(option.activation for option in options.values()))
    have = {(option.kernel, option.activation) for option in options.values()}
    missing = [f"{k}x{k} {a}" for k, a in product(kernels, activations) if (k, a) not in have]
    if missing or len(have) != len(options):
        reason = f"{', '.join(missing)} is missing" if missing else "two names stand for one combination"
        raise SpaceError(
            f"weight_sharing=entangled needs every combination of the options' kernels and activations: "
            f"{reason}. Complete the options or use weight_sharing=none."
        )
    return kernels, activations
