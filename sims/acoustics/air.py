"""The air that all rooms are filled with."""

SPEED_OF_SOUND = 343.0  # m/s
DENSITY = 1.2  # kg/m³
CHARACTERISTIC_IMPEDANCE = DENSITY * SPEED_OF_SOUND  # Pa s/m
