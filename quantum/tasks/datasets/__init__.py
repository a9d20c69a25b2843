"""Readers of labelled data: one function each, which returns :class:`~quantum.tasks.datasets.labelled.LabelledData`.

A configuration names a reader by its full name (``task.data._target_``), so a new one is one function anywhere that
may be configured.
"""
