"""Truth and dynamics: numerical systems and real data that stand for nature."""
