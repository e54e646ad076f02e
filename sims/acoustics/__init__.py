"""Rooms: sound waves between walls that absorb, solved, learned, listened to and designed."""
