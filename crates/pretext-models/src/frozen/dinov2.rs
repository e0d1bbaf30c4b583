//! DINOv2 (Oquab et al., 2023): a vision transformer trained without labels; the embedding is the
//! class token after the last layer norm.
//!
//! It is built on candle's `vit` rather than on its `dinov2`. The latter approximates the GELU by
//! a hyperbolic tangent, uses 1e-5 for the norms' epsilon where the weights were trained with
//! 1e-6, resamples positions to the nearest neighbour where the original is bicubic, and cannot
//! be built without the weights of a classification head. The one part that `vit` lacks, a learned
//! scale on each residual branch, is folded into the linear layer before it, which is exact.
//!
//! Files hold positions for pictures of 518 px. They are resampled once, while opening, to the
//! 224 px that embeddings are commonly computed at, as Hugging Face does.

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Activation, Func, VarBuilder};
use candle_transformers::models::vit::Config;

use super::positions::resample;
use super::{Architecture, FrozenSpec, IMAGENET_MEAN, IMAGENET_STD, vit};

/// Height and width of a patch, in pixels.
const PATCH: usize = 14;

/// Height and width of the pictures that embeddings are computed from, in pixels.
const IMAGE: usize = 224;

/// Height and width, in patches, of the positions in a file: made for pictures of 518 px.
const GRID: usize = 518 / PATCH;

/// candle's names of the parts, beside Meta's own.
const META: &[(&str, &str)] = &[
    ("embeddings.cls_token", "cls_token"),
    ("embeddings.position_embeddings", "pos_embed"),
    ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
    ("encoder.layer", "blocks"),
    ("layernorm_before", "norm1"),
    ("layernorm_after", "norm2"),
    ("attention.attention", "attn"),
    ("attention.output.dense", "attn.proj"),
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
    ("layernorm.", "norm."),
];

/// candle's names of the parts, beside Hugging Face's where they differ.
const HUGGING_FACE: &[(&str, &str)] = &[
    ("layernorm_before", "norm1"),
    ("layernorm_after", "norm2"),
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
    // The second projection of attention shares its ending with the MLP's.
    ("attention.mlp.fc2", "attention.output.dense"),
];

/// One width of the family.
#[derive(Debug)]
struct Dinov2 {
    width: usize,
    heads: usize,
    depth: usize,
}

impl Architecture for Dinov2 {
    fn build(&self, vb: VarBuilder<'static>) -> Result<Func<'static>> {
        let config = Config {
            hidden_size: self.width,
            num_hidden_layers: self.depth,
            num_attention_heads: self.heads,
            intermediate_size: 4 * self.width,
            hidden_act: Activation::Gelu,
            layer_norm_eps: 1e-6,
            image_size: IMAGE,
            patch_size: PATCH,
            num_channels: 3,
            qkv_bias: true,
        };
        let (dtype, device) = (vb.dtype(), vb.device().clone());
        let meta = vb.contains_tensor("blocks.0.attn.qkv.weight");
        let classifier = vb.contains_tensor("dinov2.embeddings.cls_token");
        let file = if classifier { vb.pp("dinov2") } else { vb };
        let renamed = Renamed { file, meta, width: self.width };
        vit::network(&config, VarBuilder::from_backend(Box::new(renamed), dtype, device))
    }

    fn unused(&self, name: &str) -> bool {
        name.starts_with("classifier.")
            || name.starts_with("head.")
            || name == "mask_token"
            || name.strip_prefix("dinov2.").unwrap_or(name) == "embeddings.mask_token"
    }
}

/// The weights of DINOv2 under the names of a plain vision transformer.
struct Renamed {
    file: VarBuilder<'static>,
    /// Whether the file has Meta's own names; otherwise it has Hugging Face's.
    meta: bool,
    width: usize,
}

impl Renamed {
    /// The name in the file of what candle calls `name`.
    fn translate(&self, name: &str) -> String {
        let pairs = if self.meta { META } else { HUGGING_FACE };
        pairs.iter().fold(name.to_string(), |name, (ours, theirs)| name.replacen(ours, theirs, 1))
    }

    /// The name in the file of the scale on the residual branch that `name` (candle's) ends.
    fn scale(&self, name: &str) -> Option<String> {
        let (layer, part) = name.strip_prefix("encoder.layer.")?.split_once('.')?;
        let branch = match part.rsplit_once('.')?.0 {
            "attention.output.dense" => 1,
            "output.dense" => 2,
            _ => return None,
        };
        Some(if self.meta {
            format!("blocks.{layer}.ls{branch}.gamma")
        } else {
            format!("encoder.layer.{layer}.layer_scale{branch}.lambda1")
        })
    }
}

impl SimpleBackend for Renamed {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: candle_nn::Init,
        _: DType,
        _: &Device,
    ) -> Result<Tensor> {
        let d = self.width;
        let theirs = self.translate(name);
        if name == "embeddings.position_embeddings" {
            let positions = self.file.get((1, 1 + GRID * GRID, d), &theirs)?;
            return resample(&positions, GRID, IMAGE / PATCH);
        }
        // Meta stores query, key and value as one matrix, in this order.
        for (third, part) in [".query.", ".key.", ".value."].into_iter().enumerate() {
            if self.meta && theirs.contains(part) {
                let mut joint = shape.dims().to_vec();
                joint[0] *= 3;
                let joint = self.file.get(joint, &theirs.replace(part, ".qkv."))?;
                return joint.narrow(0, third * d, d)?.contiguous();
            }
        }
        let tensor = self.file.get(shape, &theirs)?;
        let Some(scale) = self.scale(name) else { return Ok(tensor) };
        let scale = self.file.get(d, &scale)?;
        // The scale belongs to outputs, which are the rows of a weight.
        if tensor.rank() == 2 { tensor.broadcast_mul(&scale.unsqueeze(1)?) } else { tensor * scale }
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("{name} was asked for without a shape")
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.file.contains_tensor(&self.translate(name))
    }
}

pub(super) const SMALL: FrozenSpec = FrozenSpec {
    name: "dinov2-small",
    about: "DINOv2 ViT-S/14 without registers (Oquab et al., 2023), 22 M parameters; class token",
    weights: "Hugging Face's DINOv2 names (facebook/dinov2-small, model.safetensors) or Meta's \
              own (timm/vit_small_patch14_dinov2.lvd142m, model.safetensors)",
    input_size: IMAGE,
    fixed_size: true,
    dimension: 384,
    mean: IMAGENET_MEAN,
    std: IMAGENET_STD,
    architecture: &Dinov2 { width: 384, heads: 6, depth: 12 },
};

pub(super) const BASE: FrozenSpec = FrozenSpec {
    name: "dinov2-base",
    about: "DINOv2 ViT-B/14 without registers (Oquab et al., 2023), 87 M parameters; class token",
    weights: "Hugging Face's DINOv2 names (facebook/dinov2-base, model.safetensors) or Meta's own \
              (timm/vit_base_patch14_dinov2.lvd142m, model.safetensors)",
    dimension: 768,
    architecture: &Dinov2 { width: 768, heads: 12, depth: 12 },
    ..SMALL
};

pub(super) const LARGE: FrozenSpec = FrozenSpec {
    name: "dinov2-large",
    about: "DINOv2 ViT-L/14 without registers (Oquab et al., 2023), 304 M parameters; class token",
    weights: "Hugging Face's DINOv2 names (facebook/dinov2-large, model.safetensors) or Meta's \
              own (timm/vit_large_patch14_dinov2.lvd142m, model.safetensors)",
    dimension: 1024,
    architecture: &Dinov2 { width: 1024, heads: 16, depth: 24 },
    ..SMALL
};
