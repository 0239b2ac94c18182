"""Pictures and pages of score tracks and genes along a genome."""
