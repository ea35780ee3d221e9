"""Models that read images: which ones, what a processor makes of an image, and images in training rows."""
