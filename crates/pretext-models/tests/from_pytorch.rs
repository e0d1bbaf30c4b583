//! Files of weights as fastai's, torchvision's and PyTorch's users save them.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use pretext_models::{
    Builder, Classifier, EncoderOptions, Mode, Parameters, ProjectionHead, weights,
};
use rand::{SeedableRng as _, rngs::StdRng};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// A file of this crate's references.
fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(name)
}

/// Writes the `state_dict` of a network with 20 classes as `safetensors.torch.save_file` does: with
/// its metadata, and with the counters of batch norms.
fn save_state_dict(case: &str, path: &Path) {
    let text = fs::read_to_string(reference(&format!("{case}.json"))).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    let (mut header, mut data) = (Map::new(), Vec::<u8>::new());
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut add = |name: &str, dtype: &str, dims: &[usize], bytes: Vec<u8>| {
        let offsets = [data.len(), data.len() + bytes.len()];
        let entry = json!({"dtype": dtype, "shape": dims, "data_offsets": offsets});
        header.insert(name.to_owned(), entry);
        data.extend(bytes);
    };
    for line in json["names"].as_array().unwrap() {
        let (name, dims) = line.as_str().unwrap().split_once(' ').unwrap();
        let dims: Vec<usize> = dims.split('x').map(|side| side.parse().unwrap()).collect();
        let values = common::value(name, &dims);
        add(name, "F32", &dims, values.iter().flat_map(|v| v.to_le_bytes()).collect());
        if let Some(norm) = name.strip_suffix("running_var") {
            add(&format!("{norm}num_batches_tracked"), "I64", &[], 7i64.to_le_bytes().into());
        }
    }
    let header = serde_json::to_vec(&header).unwrap();
    let length = (header.len() as u64).to_le_bytes();
    fs::write(path, [&length[..], &header, &data].concat()).unwrap();
}

/// A classifier with random weights, and its parameters.
fn classifier(name: &str, classes: usize) -> (Classifier, Parameters) {
    let parameters = Parameters::new(&Device::Cpu);
    let mut rng = StdRng::seed_from_u64(3);
    let builder = Builder::new(&parameters, &mut rng);
    let classifier = Classifier::new(name, &EncoderOptions::default(), classes, builder).unwrap();
    (classifier, parameters)
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_dtype(DType::F32).unwrap().to_vec1().unwrap()
}

/// Loads a whole network, and its encoder below a head for other classes.
#[track_caller]
fn check(name: &str, head: &str) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.safetensors");
    save_state_dict(name, &path);
    let (tensors, metadata) = weights::read(&path).unwrap();
    assert_eq!(metadata["format"], "pt");

    let (_, wanted) = classifier(name, 20);
    common::fill(&wanted);
    let (_, whole) = classifier(name, 20);
    whole.load(&tensors).unwrap();
    let (other, part) = classifier(name, 5);
    let before = part.get(&format!("{head}.weight")).unwrap().var.copy().unwrap();
    other.load_encoder(&part, &tensors, &path).unwrap();
    for parameter in wanted.iter() {
        let name = &parameter.name;
        let want = values(&parameter.var);
        assert!(values(&whole.get(name).unwrap().var) == want, "{name} in the whole network");
        if !name.starts_with(&format!("{head}.")) {
            assert!(values(&part.get(name).unwrap().var) == want, "{name} in the encoder");
        }
    }
    let after = &part.get(&format!("{head}.weight")).unwrap().var;
    assert_eq!(values(after), values(&before), "the head has changed");
}

#[test]
fn whole_networks_and_their_encoders() {
    check("xresnet18", "11");
    check("resnet18", "fc");
}

/// A file that PyTorch wrote, with the output that it has there.
#[test]
fn file_of_pytorch() {
    let parameters = Parameters::new(&Device::Cpu);
    let mut rng = StdRng::seed_from_u64(0);
    let head = ProjectionHead::new(8, 6, 2, Builder::new(&parameters, &mut rng)).unwrap();
    let (tensors, _) = weights::read(&reference("projection_head.safetensors")).unwrap();
    assert!(tensors.contains_key("1.num_batches_tracked"));
    parameters.load(&tensors).unwrap();

    let x = common::input(&[3, 8], DType::F32);
    let got = head.forward(&x, Mode::Evaluate).unwrap().to_vec2::<f32>().unwrap();
    let text = fs::read_to_string(reference("projection_head.json")).unwrap();
    let want: Vec<Vec<f32>> = serde_json::from_str(&text).unwrap();
    for (got, want) in got.iter().flatten().zip(want.iter().flatten()) {
        assert!((got - want).abs() < 1e-6, "{got}, not {want}");
    }
}
