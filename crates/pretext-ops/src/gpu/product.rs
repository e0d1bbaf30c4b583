//! The three matrix products that a convolution and its gradients are.

use candle_core::DType;

/// One of the products of a convolution's pictures `x`, weights `w` and sums `y`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Product {
    /// `y` of `x` and `w`.
    Forward,
    /// The gradient of `x`, of `w` and that of `y`.
    Input,
    /// The gradient of `w`, of `x` and that of `y`.
    Weight,
}

/// In which order numbers lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Order {
    /// `[N, H, W, C]` and `[O, K, L, C]`.
    ChannelsLast,
    /// `[N, C, H, W]` and `[O, C, K, L]`.
    ChannelsFirst,
}

/// What numbers are and how they lie.
pub(crate) type Form = (DType, Order);

/// Where `x`, `w` and `y`, or their gradients, lie.
#[derive(Clone, Copy)]
pub(crate) struct At {
    pub(crate) x: u64,
    pub(crate) w: u64,
    pub(crate) y: u64,
}
