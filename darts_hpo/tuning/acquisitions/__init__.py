"""What makes a point worth trying next: one acquisition function, or a small family, per file."""
