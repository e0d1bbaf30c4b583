//! ResNet (He et al., 2015): the embedding is the global average pool before the classifier.

use candle_core::Result;
use candle_nn::{Func, VarBuilder};
use candle_transformers::models::resnet;

use super::{Architecture, FrozenSpec, IMAGENET_MEAN, IMAGENET_STD};

/// One depth of the family, as the function of candle that builds it without its classifier.
#[derive(Debug)]
struct ResNet(fn(VarBuilder<'static>) -> Result<Func<'static>>);

impl Architecture for ResNet {
    fn build(&self, vb: VarBuilder<'static>) -> Result<Func<'static>> {
        (self.0)(vb)
    }

    fn unused(&self, name: &str) -> bool {
        name.starts_with("fc.") || name.ends_with(".num_batches_tracked")
    }
}

/// The entry of one depth.
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

pub(super) const RESNET18: FrozenSpec = spec(
    "resnet18",
    "ResNet-18 (He et al., 2015), 11 M parameters; global average pool",
    "torchvision's names: timm/resnet18.tv_in1k or .a1_in1k on Hugging Face, model.safetensors",
    512,
    &ResNet(resnet::resnet18_no_final_layer),
);

pub(super) const RESNET34: FrozenSpec = spec(
    "resnet34",
    "ResNet-34 (He et al., 2015), 21 M parameters; global average pool",
    "torchvision's names: timm/resnet34.tv_in1k or .a1_in1k on Hugging Face, model.safetensors",
    512,
    &ResNet(resnet::resnet34_no_final_layer),
);

pub(super) const RESNET50: FrozenSpec = spec(
    "resnet50",
    "ResNet-50 (He et al., 2015), 24 M parameters; global average pool",
    "torchvision's names: timm/resnet50.tv_in1k or .a1_in1k on Hugging Face, model.safetensors",
    2048,
    &ResNet(resnet::resnet50_no_final_layer),
);

pub(super) const RESNET101: FrozenSpec = spec(
    "resnet101",
    "ResNet-101 (He et al., 2015), 43 M parameters; global average pool",
    "torchvision's names: timm/resnet101.tv_in1k or .a1_in1k on Hugging Face, model.safetensors",
    2048,
    &ResNet(resnet::resnet101_no_final_layer),
);

pub(super) const RESNET152: FrozenSpec = spec(
    "resnet152",
    "ResNet-152 (He et al., 2015), 58 M parameters; global average pool",
    "torchvision's names: timm/resnet152.tv_in1k or .a1_in1k on Hugging Face, model.safetensors",
    2048,
    &ResNet(resnet::resnet152_no_final_layer),
);
