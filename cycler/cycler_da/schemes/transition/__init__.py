"""What schemes share that sample the transition of the forecast model."""
