"""Our samplers beside those of other libraries: ten problems, one simulated clock, every method in its own process.

What is the same for all methods: the space (floats, integers, unordered options), the loss and the duration at each
point, that failed trials are told as failures, one thread, 100 trials. Everything else is as a library sets it up by
itself; what had to be set says the library's wrapper in ``peers/``. No method is told a default or a good point.

Two clocks. At *equal trials*, 40 at once, thinking takes no time: results do not depend on the machine. At *equal
wall-clock*, the processor seconds that a method took to suggest, and to be told, are put on the clock of the same run,
with one suggestion at a time; the deadline is when random search ends its trials.
"""
