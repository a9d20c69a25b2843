"""Problems for circuits: classification, ground states, cuts of graphs, states and unitaries to be prepared.

One problem per module. All of them share :class:`~quantum.tasks.base.QuantumTask`; those without data also
:class:`~quantum.tasks.constant.ConstantTask`.
"""
