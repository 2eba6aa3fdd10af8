"""SAM and ASAM restated plainly from their papers: one parameter at a time, statistics saved and put back by hand."""

import torch


def sharpness_aware_gradient(model, loss_of, rho, scale_of):
    """Fills `.grad` with the gradient at w + rho T² g / ||T g||, T = scale_of(name, w); returns the first loss."""
    model.zero_grad()
    loss = loss_of()
    loss.backward()
    named = {name: p for name, p in model.named_parameters() if p.grad is not None}
    scales = {name: scale_of(name, p.detach()) for name, p in named.items()}
    norm = torch.sqrt(sum(((scales[name] * p.grad) ** 2).sum() for name, p in named.items()))
    weights = {name: p.detach().clone() for name, p in named.items()}
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    with torch.no_grad():
        for name, p in named.items():
            p.copy_(weights[name] + rho * scales[name] ** 2 * p.grad / norm)
    model.zero_grad()
    loss_of().backward()
    with torch.no_grad():
        for name, p in named.items():
            p.copy_(weights[name])
        for name, b in model.named_buffers():
            b.copy_(buffers[name])
    return loss.detach()
