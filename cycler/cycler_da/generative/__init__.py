"""The generative core: learned and analytic probability paths between two states, tensors only.

Needs torch, numpy and safetensors alone, so that it trains on a bare GPU machine.
"""
