"""Kronos in PyTorch: a tokenizer and a decoder-only model in the published layout. Imports torch and nothing of ours."""
