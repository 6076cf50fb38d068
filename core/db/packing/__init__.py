"""Codecs between arrays and the bytes of wide columns: exact, sliced from few large buffers.

Whole numbers take the fewest bytes (1–4, little-endian) that hold the largest of their buffer;
activations stay float32, bit for bit. Float32 activations hardly compress (zlib saves a tenth and
costs 80 µs a feature), so nothing is compressed but the vocabulary.
"""
