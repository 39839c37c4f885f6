"""What surrounds every analysis: checks of what goes in and comes out, its diagnostics, its conclusion."""
