"""Kronos in PyTorch: tokenizer and decoder-only model in the published layout. Imports torch, nothing of ours."""
