"""What ensemble schemes share: transforms, localization, inflation, perturbed observations."""
