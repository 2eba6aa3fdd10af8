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


def look_sam_gradient(model, loss_of, rho, alpha, interval, step, kept):
    """Fills `.grad` as Liu et al. 2022, algorithm 1; `kept` is the flat g_v so far. Returns the loss and new g_v."""
    model.zero_grad()
    loss = loss_of()
    loss.backward()
    flat = torch.cat([p.grad.flatten() for p in model.parameters()])
    if step % interval == 0:
        sharpness_aware_gradient(model, loss_of, rho, lambda name, w: torch.ones_like(w))
        theirs = torch.cat([p.grad.flatten() for p in model.parameters()])
        cosine = flat @ theirs / flat.norm() / theirs.norm()
        return loss.detach(), theirs - theirs.norm() * cosine * flat / flat.norm()
    total, at = flat + alpha * flat.norm() / kept.norm() * kept, 0
    for p in model.parameters():
        p.grad.copy_(total[at : at + p.numel()].view_as(p))
        at += p.numel()
    return loss.detach(), kept
