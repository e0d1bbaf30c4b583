//! Frozen encoders: embeddings against PyTorch, detection, and refusals.
//!
//! Weights are made by a formula over their names, the same as in `reference/frozen/make_frozen.py`,
//! so that networks of full size can be compared with PyTorch without committing their weights.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use pretext_models::frozen::{FROZEN, FrozenEncoder, detect, find};
use pretext_models::{Builder, EncoderOptions, Mode, Parameters, encoder};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tempfile::TempDir;

/// One file of `reference/frozen`.
struct Reference {
    encoder: String,
    size: usize,
    tensors: BTreeMap<String, Vec<usize>>,
    embeddings: Vec<Vec<f32>>,
}

impl Reference {
    fn read(case: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/frozen");
        let text = fs::read_to_string(folder.join(case).with_extension("json")).unwrap();
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        Self {
            encoder: serde_json::from_value(json["encoder"].take()).unwrap(),
            size: serde_json::from_value(json["size"].take()).unwrap(),
            tensors: serde_json::from_value(json["tensors"].take()).unwrap(),
            embeddings: serde_json::from_value(json["embeddings"].take()).unwrap(),
        }
    }

    /// The weights, in the floating-point type given.
    fn weights(&self, dtype: DType) -> HashMap<String, Tensor> {
        let tensors = self.tensors.iter();
        tensors.map(|(name, shape)| (name.clone(), fill(name, shape, dtype))).collect()
    }

    /// Writes the weights to a file in `folder`.
    fn save(&self, folder: &TempDir, dtype: DType) -> PathBuf {
        let path = folder.path().join("model.safetensors");
        candle_core::safetensors::save(&self.weights(dtype), &path).unwrap();
        path
    }

    /// Writes a file with these names and shapes whose weights are a hole: all a refusal looks at.
    fn hollow(&self, folder: &TempDir, dtype: &str) -> PathBuf {
        let width = dtype.trim_start_matches(char::is_alphabetic).parse::<usize>().unwrap() / 8;
        let mut end = 0;
        let entries: Vec<String> = self
            .tensors
            .iter()
            .map(|(name, shape)| {
                let start = end;
                end += width * shape.iter().product::<usize>();
                let about = format!(r#""dtype":"{dtype}","shape":{shape:?}"#);
                format!(r#""{name}":{{{about},"data_offsets":[{start},{end}]}}"#)
            })
            .collect();
        let header = format!("{{{}}}", entries.join(","));
        let path = folder.path().join("hollow.safetensors");
        let mut file = File::create(&path).unwrap();
        file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
        file.write_all(header.as_bytes()).unwrap();
        file.set_len((8 + header.len() + end) as u64).unwrap();
        path
    }
}

/// Numbers in `-1..1` with 24 bits, by splitmix64 from the FNV-1a hash of `name`.
fn uniform(name: &str, count: usize) -> impl Iterator<Item = f64> {
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    (1..=count as u64).map(move |i| {
        let z = seed.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let z = z ^ (z >> 31);
        (z >> 40) as f64 / 8_388_608.0 - 1.0
    })
}

/// The tensor that `fill` in `make_frozen.py` makes.
fn fill(name: &str, shape: &[usize], dtype: DType) -> Tensor {
    if name.ends_with("num_batches_tracked") {
        return Tensor::zeros(shape, DType::I64, &Device::Cpu).unwrap();
    }
    let scaled: Box<dyn Fn(f64) -> f64> = if name.ends_with("running_var") {
        Box::new(|u| 1.0 + u / 2.0)
    } else if name.ends_with("gamma")
        || name.ends_with("lambda1")
        || (shape.len() == 1 && name.ends_with(".weight"))
    {
        Box::new(|u| 1.0 + u / 4.0)
    } else if shape.len() >= 2 && shape[0] > 1 {
        let scale = (3.0 / shape[1..].iter().product::<usize>() as f64).sqrt();
        Box::new(move |u| u * scale)
    } else {
        Box::new(|u| u / 2.0)
    };
    let values: Vec<f32> =
        uniform(name, shape.iter().product()).map(|u| scaled(u) as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

/// The two pictures that the reference embeddings are of.
fn pictures(size: usize) -> Tensor {
    let values: Vec<f32> = uniform("x", 2 * 3 * size * size).map(|u| u as f32).collect();
    Tensor::from_vec(values, (2, 3, size, size), &Device::Cpu).unwrap()
}

fn embed(encoder: &FrozenEncoder, x: &Tensor) -> Vec<Vec<f32>> {
    encoder.embed(x).unwrap().to_vec2().unwrap()
}

#[track_caller]
fn assert_close(found: &[Vec<f32>], expected: &[Vec<f32>], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.len(), expected.len());
        let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let finite = found.iter().all(|v| v.is_finite());
        assert!(finite && worst <= tolerance, "off by {worst} where {tolerance} is allowed");
    }
}

/// A file is recognised, and what comes out is what PyTorch gives.
#[track_caller]
fn check_embeddings(case: &str) {
    let reference = Reference::read(case);
    let folder = tempfile::tempdir().unwrap();
    let path = reference.save(&folder, DType::F32);

    assert_eq!(detect(&path).unwrap().name, reference.encoder);
    let encoder = FrozenEncoder::open(&reference.encoder, &path, &Device::Cpu).unwrap();
    let x = pictures(reference.size);
    let embeddings = embed(&encoder, &x);
    assert_eq!(embeddings[0].len(), encoder.dimension());
    assert_close(&embeddings, &reference.embeddings, 1e-4);

    assert_eq!(embed(&encoder, &x), embeddings, "a second time");
    let alone = embed(&encoder, &x.narrow(0, 1, 1).unwrap());
    assert_close(&alone, &embeddings[1..], 1e-5);
}

#[test]
fn resnet18_agrees_with_torchvision() {
    check_embeddings("resnet18");
}

#[test]
fn resnet18_agrees_with_our_own() {
    let reference = Reference::read("resnet18");
    let folder = tempfile::tempdir().unwrap();
    let path = reference.save(&folder, DType::F32);
    let frozen = FrozenEncoder::open("resnet18", &path, &Device::Cpu).unwrap();

    let parameters = Parameters::new(&Device::Cpu);
    let mut rng = StdRng::seed_from_u64(0);
    let builder = Builder::new(&parameters, &mut rng);
    let own = encoder("resnet18", &EncoderOptions::default(), builder).unwrap();
    let mut weights: BTreeMap<_, _> = reference.weights(DType::F32).into_iter().collect();
    weights.retain(|name, _| !name.starts_with("fc.") && !name.ends_with("num_batches_tracked"));
    parameters.load(&weights).unwrap();

    let x = pictures(96);
    let maps = own.forward(&x, Mode::Evaluate).unwrap();
    let expected = maps.mean((2, 3)).unwrap().to_vec2().unwrap();
    assert_close(&embed(&frozen, &x), &expected, 1e-4);
}

#[test]
fn resnet50_agrees_with_torchvision() {
    check_embeddings("resnet50");
}

#[test]
fn dino_agrees_with_hugging_face() {
    check_embeddings("dino_vits16");
}

#[test]
fn vit_with_a_classifier_agrees_with_hugging_face() {
    check_embeddings("vit_classifier");
}

#[test]
fn dinov2_agrees_with_hugging_face() {
    check_embeddings("dinov2_hugging_face");
}

#[test]
fn dinov2_under_meta_s_names_agrees_with_timm() {
    check_embeddings("dinov2_meta");
}

#[test]
fn convnext_with_convolutions_in_its_mlp_agrees_with_timm() {
    check_embeddings("convnext_atto");
}

#[test]
fn convnext_with_linear_layers_in_its_mlp_agrees_with_timm() {
    check_embeddings("convnext_tiny");
}

#[test]
fn convnext_v2_agrees_with_timm() {
    check_embeddings("convnextv2_atto");
}

#[test]
fn weights_of_any_floating_point_type_are_read() {
    let reference = Reference::read("convnext_atto");
    for (dtype, tolerance) in [(DType::F64, 1e-4), (DType::F16, 0.02), (DType::BF16, 0.2)] {
        let folder = tempfile::tempdir().unwrap();
        let path = reference.save(&folder, dtype);
        let encoder = FrozenEncoder::open(&reference.encoder, &path, &Device::Cpu).unwrap();
        assert_close(&embed(&encoder, &pictures(64)), &reference.embeddings, tolerance);
    }
}

#[test]
fn embeddings_are_detached() {
    // Not a network with layer norms: candle's have no gradient and would detach by themselves.
    let reference = Reference::read("resnet18");
    let folder = tempfile::tempdir().unwrap();
    let path = reference.save(&folder, DType::F32);
    let encoder = FrozenEncoder::open(&reference.encoder, &path, &Device::Cpu).unwrap();
    let x = candle_core::Var::from_tensor(&pictures(64)).unwrap();
    assert!(!encoder.embed(&x).unwrap().track_op());
}

#[test]
fn batches_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let open = |case: &str| {
        let reference = Reference::read(case);
        let path = reference.save(&folder, DType::F16);
        FrozenEncoder::open(&reference.encoder, &path, &Device::Cpu).unwrap()
    };
    let (any_size, fixed_size) = (open("convnext_atto"), open("dino_vits16"));
    let check = |encoder: &FrozenEncoder, shape: &[usize], dtype, expected: &str| {
        let x = Tensor::zeros(shape, dtype, &Device::Cpu).unwrap();
        assert_eq!(encoder.embed(&x).unwrap_err().to_string(), expected);
    };
    let wants = "convnext-atto takes f32 [N, 3, H, W] with H and W from 32 up, not";
    check(&any_size, &[3, 64, 64], DType::F32, &format!("{wants} F32 [3, 64, 64]"));
    check(&any_size, &[0, 3, 64, 64], DType::F32, &format!("{wants} F32 [0, 3, 64, 64]"));
    check(&any_size, &[1, 1, 64, 64], DType::F32, &format!("{wants} F32 [1, 1, 64, 64]"));
    check(&any_size, &[1, 3, 64, 31], DType::F32, &format!("{wants} F32 [1, 3, 64, 31]"));
    check(&any_size, &[1, 3, 64, 64], DType::F64, &format!("{wants} F64 [1, 3, 64, 64]"));
    let wants = "dino-vits16 takes f32 [N, 3, 224, 224], not";
    check(&fixed_size, &[1, 3, 224, 240], DType::F32, &format!("{wants} F32 [1, 3, 224, 240]"));

    let odd = Tensor::ones((1, 3, 32, 45), DType::F32, &Device::Cpu).unwrap();
    assert_eq!(any_size.embed(&odd).unwrap().dims(), [1, 320]);
}

/// `open` refuses a file of these tensors with one line that ends as expected.
#[track_caller]
fn check_refused(reference: &Reference, name: &str, dtype: &str, expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = reference.hollow(&folder, dtype);
    let error = FrozenEncoder::open(name, &path, &Device::Cpu).unwrap_err().to_string();
    assert_eq!(error, format!("{}: not the weights of {name}: {expected}", path.display()));
}

#[test]
fn weights_of_another_network_are_refused_by_name() {
    let resnet18 = Reference::read("resnet18");
    check_refused(
        &resnet18,
        "resnet34",
        "F32",
        "80 missing: layer1.2.bn1.bias, layer1.2.bn1.running_mean, layer1.2.bn1.running_var, …",
    );

    let mut damaged = Reference::read("resnet18");
    damaged.tensors.remove("bn1.bias");
    damaged.tensors.insert("conv1.weight".to_string(), vec![64, 1, 7, 7]);
    damaged.tensors.insert("layer1.0.se.weight".to_string(), vec![64]);
    check_refused(
        &damaged,
        "resnet18",
        "F32",
        "1 missing: bn1.bias; 1 unexpected: layer1.0.se.weight; 1 mis-shaped: conv1.weight (is \
         [64, 1, 7, 7], should be [64, 3, 7, 7])",
    );

    // Every tensor of DINOv2 is there, but with registers the class token means something else.
    let mut registers = Reference::read("dinov2_hugging_face");
    registers.tensors.insert("embeddings.register_tokens".to_string(), vec![1, 4, 384]);
    check_refused(&registers, "dinov2-small", "F16", "1 unexpected: embeddings.register_tokens");
}

#[test]
fn quantised_weights_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = Reference::read("convnext_atto").hollow(&folder, "I8");
    let expected = format!(
        "{}: head.norm.bias is I8; give weights in floating point (f16, bf16, f32 or f64)",
        path.display()
    );
    let opened = FrozenEncoder::open("convnext-atto", &path, &Device::Cpu).unwrap_err();
    assert_eq!(opened.to_string(), expected);
    assert_eq!(detect(&path).unwrap_err().to_string(), expected);
}

#[test]
fn a_file_that_fits_nothing_is_compared_with_the_nearest() {
    let folder = tempfile::tempdir().unwrap();
    let mut reference = Reference::read("resnet18");
    reference.tensors.remove("bn1.bias");
    let path = reference.hollow(&folder, "F32");
    let expected = format!(
        "{}: not the weights of any frozen encoder; nearest is resnet18: 1 missing: bn1.bias",
        path.display()
    );
    assert_eq!(detect(&path).unwrap_err().to_string(), expected);
}

#[test]
fn heads_are_not_needed() {
    let without = |case: &str, parts: &[&str]| {
        let mut reference = Reference::read(case);
        let before = reference.tensors.len();
        reference.tensors.retain(|name, _| !parts.iter().any(|part| name.contains(part)));
        assert!(reference.tensors.len() < before, "{case} has none of {parts:?}");
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(detect(&reference.hollow(&folder, "F32")).unwrap().name, reference.encoder);
    };
    without("resnet18", &["fc.", "num_batches_tracked"]);
    without("dino_vits16", &["pooler."]);
    without("vit_classifier", &["classifier."]);
    without("dinov2_hugging_face", &["mask_token"]);
    without("convnext_atto", &["head.fc."]);
}

/// Both `detect` and `open` refuse these bytes as a file of weights.
#[track_caller]
fn check_format(bytes: &[u8], reason: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    fs::write(&path, bytes).unwrap();
    let expected = format!("{}: not a whole safetensors file ({reason}", path.display());
    let found = detect(&path).unwrap_err().to_string();
    assert!(found.starts_with(&expected) && found.lines().count() == 1, "{found}");
    let opened = FrozenEncoder::open("resnet18", &path, &Device::Cpu).unwrap_err();
    assert_eq!(opened.to_string(), found);
}

#[test]
fn damaged_files_are_refused() {
    check_format(b"", "it has 0 bytes");
    check_format(b"PK\x03\x04 a .pth file", "it does not begin with the length of a header");
    check_format(b"\x08\0\0\0\0\0\0\0not json", "expected ident");
    let header = br#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header);
    bytes.extend_from_slice(&[0; 7]);
    check_format(&bytes, "it has 69 bytes, its header promises 70");
}

#[test]
fn names_and_paths_that_are_not_there_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("nowhere");
    let open = |name: &str, path: &Path| {
        FrozenEncoder::open(name, path, &Device::Cpu).unwrap_err().to_string()
    };
    let unknown = open("resnet19", &nowhere);
    assert!(unknown.starts_with("no frozen encoder is called \"resnet19\"; known are resnet18, "));
    assert!(open("resnet18", &nowhere).starts_with(&format!("{}: ", nowhere.display())));
    assert!(open("resnet18", folder.path()).contains("directory"));
}

#[test]
fn names_stand_once() {
    for (i, spec) in FROZEN.iter().enumerate() {
        assert!(FROZEN[..i].iter().all(|other| other.name != spec.name), "{} again", spec.name);
        assert_eq!(find(spec.name).map(|found| found.about), Some(spec.about));
    }
}
