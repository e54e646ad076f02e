"""What walls do to sound: branches of an admittance, and their fits to formulas and tables."""
