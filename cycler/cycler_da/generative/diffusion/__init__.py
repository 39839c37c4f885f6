"""Denoising diffusion of states and of windows of states: schedules, denoisers, likelihood scores, samplers.

Three nouns. A *schedule* says how a clean z_0 and noise are mixed, z_t = mu(t) z_0 + sigma(t) e. A *denoiser* gives
E[z_0 | z_t]; a likelihood score is a wrapper around a denoiser and again a denoiser, of E[z_0 | z_t, y]. A *sampler*
walks from t = 1 to 0 with any denoiser. Noise predictions, scores and denoised estimates are one thing (`denoiser`).
"""
