"""Backend `cuda`: the integer network as Triton kernels, for GPUs and, slowly, for Triton's interpreter."""
