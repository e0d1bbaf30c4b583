//! ConvNeXt (Liu et al., 2022) and ConvNeXt V2 (Woo et al., 2023): the embedding is the global
//! average pool after its layer norm, what timm gives with `num_classes=0`.

use candle_core::Result;
use candle_nn::{Func, VarBuilder, layer_norm};
use candle_transformers::models::convnext::{Config, convnext_no_final_layer};

use super::{Architecture, FrozenSpec, IMAGENET_MEAN, IMAGENET_STD};

/// One size of the family.
#[derive(Debug)]
struct ConvNext {
    config: fn() -> Config,
    width: usize,
    /// V2 has global response normalisation in place of a learned scale on the residual branch.
    v2: bool,
}

impl Architecture for ConvNext {
    fn build(&self, vb: VarBuilder<'static>) -> Result<Func<'static>> {
        let pooled = convnext_no_final_layer(&(self.config)(), vb.clone())?;
        let norm = layer_norm(self.width, 1e-6, vb.pp("head.norm"))?;
        Ok(Func::new(move |x| x.apply(&pooled)?.apply(&norm)))
    }

    fn unused(&self, name: &str) -> bool {
        name.starts_with("head.fc.")
    }

    fn absent(&self, name: &str) -> bool {
        if self.v2 { name.ends_with(".gamma") } else { name.contains(".grn.") }
    }
}

/// The entry of one size.
const fn spec(
    name: &'static str,
    about: &'static str,
    weights: &'static str,
    dimension: usize,
    architecture: &'static dyn Architecture,
) -> FrozenSpec {
    FrozenSpec {
        name,
        about,
        weights,
        input_size: 224,
        fixed_size: false,
        dimension,
        mean: IMAGENET_MEAN,
        std: IMAGENET_STD,
        architecture,
    }
}

pub(super) const ATTO: FrozenSpec = spec(
    "convnext-atto",
    "ConvNeXt-Atto (Liu et al., 2022; size by timm), 3.4 M parameters; global average pool",
    "timm's names: timm/convnext_atto.d2_in1k on Hugging Face, model.safetensors",
    320,
    &ConvNext { config: Config::atto, width: 320, v2: false },
);

pub(super) const NANO: FrozenSpec = spec(
    "convnext-nano",
    "ConvNeXt-Nano (Liu et al., 2022; size by timm), 15 M parameters; global average pool",
    "timm's names: timm/convnext_nano.in12k_ft_in1k on Hugging Face, model.safetensors",
    640,
    &ConvNext { config: Config::nano, width: 640, v2: false },
);

pub(super) const TINY: FrozenSpec = spec(
    "convnext-tiny",
    "ConvNeXt-T (Liu et al., 2022), 28 M parameters; global average pool",
    "timm's names: timm/convnext_tiny.fb_in1k on Hugging Face, model.safetensors",
    768,
    &ConvNext { config: Config::tiny, width: 768, v2: false },
);

pub(super) const SMALL: FrozenSpec = spec(
    "convnext-small",
    "ConvNeXt-S (Liu et al., 2022), 49 M parameters; global average pool",
    "timm's names: timm/convnext_small.fb_in1k on Hugging Face, model.safetensors",
    768,
    &ConvNext { config: Config::small, width: 768, v2: false },
);

pub(super) const BASE: FrozenSpec = spec(
    "convnext-base",
    "ConvNeXt-B (Liu et al., 2022), 88 M parameters; global average pool",
    "timm's names: timm/convnext_base.fb_in1k on Hugging Face, model.safetensors",
    1024,
    &ConvNext { config: Config::base, width: 1024, v2: false },
);

pub(super) const V2_ATTO: FrozenSpec = spec(
    "convnextv2-atto",
    "ConvNeXt V2-A (Woo et al., 2023), 3.4 M parameters; global average pool",
    "timm's names: timm/convnextv2_atto.fcmae_ft_in1k on Hugging Face, model.safetensors",
    320,
    &ConvNext { config: Config::atto, width: 320, v2: true },
);

pub(super) const V2_NANO: FrozenSpec = spec(
    "convnextv2-nano",
    "ConvNeXt V2-N (Woo et al., 2023), 15 M parameters; global average pool",
    "timm's names: timm/convnextv2_nano.fcmae_ft_in1k on Hugging Face, model.safetensors",
    640,
    &ConvNext { config: Config::nano, width: 640, v2: true },
);

pub(super) const V2_TINY: FrozenSpec = spec(
    "convnextv2-tiny",
    "ConvNeXt V2-T (Woo et al., 2023), 28 M parameters; global average pool",
    "timm's names: timm/convnextv2_tiny.fcmae_ft_in1k on Hugging Face, model.safetensors",
    768,
    &ConvNext { config: Config::tiny, width: 768, v2: true },
);

pub(super) const V2_BASE: FrozenSpec = spec(
    "convnextv2-base",
    "ConvNeXt V2-B (Woo et al., 2023), 88 M parameters; global average pool",
    "timm's names: timm/convnextv2_base.fcmae_ft_in1k on Hugging Face, model.safetensors",
    1024,
    &ConvNext { config: Config::base, width: 1024, v2: true },
);
