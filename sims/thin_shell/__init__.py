"""Elastic and plastic sheets: paper, card, cloth, film, rubber."""
