"""What variational schemes share: covariances, linearised operators, solvers."""
