"""Lightning modules, callbacks and the protocol of a task."""
