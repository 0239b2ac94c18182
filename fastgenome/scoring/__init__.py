"""Scoring of sequences and genomes, and the files that results go to."""
