"""What window schemes share: observations of several frames, backgrounds, samplers."""
