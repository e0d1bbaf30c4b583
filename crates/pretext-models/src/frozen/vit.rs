//! Vision transformer (Dosovitskiy et al., 2020): the embedding is the class token after the last
//! layer norm.

use candle_core::{IndexOp as _, Result};
use candle_nn::{Activation, Func, VarBuilder, layer_norm};
use candle_transformers::models::vit::{Config, Embeddings, Encoder};

use super::{Architecture, FrozenSpec, IMAGENET_MEAN, IMAGENET_STD};

/// Height and width of the pictures, in pixels. candle does not resample positions, so the size is
/// fixed.
const IMAGE: usize = 224;

/// One width of the family.
#[derive(Debug)]
struct Vit {
    width: usize,
    heads: usize,
}

impl Architecture for Vit {
    fn build(&self, vb: VarBuilder<'static>) -> Result<Func<'static>> {
        let config = Config {
            hidden_size: self.width,
            num_hidden_layers: 12,
            num_attention_heads: self.heads,
            intermediate_size: 4 * self.width,
            hidden_act: Activation::Gelu,
            layer_norm_eps: 1e-12,
            image_size: IMAGE,
            patch_size: 16,
            num_channels: 3,
            qkv_bias: true,
        };
        // Hugging Face saves a bare encoder without the prefix, a classifier with it.
        let classifier = vb.contains_tensor("vit.embeddings.cls_token");
        network(&config, if classifier { vb.pp("vit") } else { vb })
    }

    fn unused(&self, name: &str) -> bool {
        name.starts_with("classifier.")
            || name.strip_prefix("vit.").unwrap_or(name).starts_with("pooler.")
    }
}

/// A vision transformer without its head, on the names of Hugging Face's ViTModel.
pub(super) fn network(config: &Config, vb: VarBuilder<'static>) -> Result<Func<'static>> {
    let embeddings = Embeddings::new(config, false, vb.pp("embeddings"))?;
    let encoder = Encoder::new(config, vb.pp("encoder"))?;
    let norm = layer_norm(config.hidden_size, config.layer_norm_eps, vb.pp("layernorm"))?;
    Ok(Func::new(move |x| {
        let tokens = embeddings.forward(x, None, false)?.apply(&encoder)?;
        tokens.i((.., 0))?.apply(&norm)
    }))
}

pub(super) const VIT_BASE: FrozenSpec = FrozenSpec {
    name: "vit-base-patch16-224",
    about: "ViT-B/16 (Dosovitskiy et al., 2020), 86 M parameters; class token",
    weights: "Hugging Face's ViT names, with or without the prefix \"vit.\": \
              google/vit-base-patch16-224 or google/vit-base-patch16-224-in21k, model.safetensors",
    input_size: IMAGE,
    fixed_size: true,
    dimension: 768,
    mean: [0.5; 3],
    std: [0.5; 3],
    architecture: &Vit { width: 768, heads: 12 },
};

pub(super) const DINO_SMALL: FrozenSpec = FrozenSpec {
    name: "dino-vits16",
    about: "ViT-S/16 trained without labels by DINO (Caron et al., 2021), 22 M parameters; class \
            token",
    weights: "Hugging Face's ViT names: facebook/dino-vits16, saved as safetensors",
    input_size: IMAGE,
    fixed_size: true,
    dimension: 384,
    mean: IMAGENET_MEAN,
    std: IMAGENET_STD,
    architecture: &Vit { width: 384, heads: 6 },
};

pub(super) const DINO_BASE: FrozenSpec = FrozenSpec {
    name: "dino-vitb16",
    about: "ViT-B/16 trained without labels by DINO (Caron et al., 2021), 86 M parameters; class \
            token",
    weights: "Hugging Face's ViT names: facebook/dino-vitb16, saved as safetensors; name it, \
              because its header is that of vit-base-patch16-224",
    dimension: 768,
    architecture: &Vit { width: 768, heads: 12 },
    ..DINO_SMALL
};
