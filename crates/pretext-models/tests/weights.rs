//! Files of weights: what is written comes back, what is damaged or does not fit is refused.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use pretext_models::weights::Source as _;
use pretext_models::{
    Builder, Classifier, EncoderOptions, Error, Parameters, ProjectionHead, UNet, UNetOptions,
    encoder, weights,
};
use rand::{SeedableRng as _, rngs::StdRng};
use tempfile::TempDir;

type Tensors = BTreeMap<String, Tensor>;

/// The tensors of a small network, and the parameters they are from.
fn small() -> (Tensors, Parameters) {
    let parameters = Parameters::new(&Device::Cpu);
    let mut rng = StdRng::seed_from_u64(1);
    ProjectionHead::new(4, 3, 2, Builder::new(&parameters, &mut rng)).unwrap();
    let copies = parameters.tensors().into_iter().map(|(name, t)| (name, t.copy().unwrap()));
    (copies.collect(), parameters)
}

fn metadata() -> BTreeMap<String, String> {
    let pairs = [("recipe", r#"{"lr":0.008}"#), ("note", "ä \"quoted\"\nline"), ("empty", "")];
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// Everything about a tensor, to compare.
#[derive(Debug, PartialEq)]
struct Facts {
    dtype: DType,
    dims: Vec<usize>,
    values: Vec<f64>,
}

fn facts(tensor: &Tensor) -> Facts {
    let values = tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap();
    Facts { dtype: tensor.dtype(), dims: tensor.dims().to_vec(), values: values.to_vec1().unwrap() }
}

fn all_facts(tensors: &Tensors) -> Vec<(String, Facts)> {
    tensors.iter().map(|(name, tensor)| (name.clone(), facts(tensor))).collect()
}

/// A file as the format describes it.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// Reads a file that must be refused as damaged, in one line that names it.
#[track_caller]
fn check_refused(bytes: &[u8], want: &str) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("encoder.safetensors");
    fs::write(&path, bytes).unwrap();
    check_refused_file(&path, want);
}

#[track_caller]
fn check_refused_file(path: &Path, want: &str) {
    let error = weights::read(path).unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, Error::Format { .. }), "{message}");
    assert!(message.contains("encoder.safetensors: not a whole safetensors file"), "{message}");
    assert!(message.contains(want), "{message:?} lacks {want:?}");
    assert!(!message.contains('\n'), "{message:?} is more than one line");
}

#[test]
fn tensors_and_metadata_come_back() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("new/folders/encoder.safetensors");
    let mut tensors = small().0;
    let device = &Device::Cpu;
    let matrix = Tensor::new(&[[1f64, 2.5], [-3.0, 4.0]], device).unwrap();
    tensors.insert("transposed".into(), matrix.t().unwrap());
    tensors.insert("counts".into(), Tensor::new(&[1i64, -2], device).unwrap());
    tensors.insert("classes".into(), Tensor::new(&[7u32], device).unwrap());
    tensors.insert("bytes".into(), Tensor::new(&[1u8, 2, 3], device).unwrap());
    tensors.insert("scalar".into(), Tensor::new(0.5f32, device).unwrap());
    tensors.insert("none".into(), Tensor::zeros((0, 3), DType::F32, device).unwrap());

    weights::save(&path, &tensors, &metadata()).unwrap();
    let (read, about) = weights::read(&path).unwrap();
    assert_eq!(all_facts(&read), all_facts(&tensors));
    assert_eq!(about, metadata());
}

#[test]
fn equal_weights_are_equal_files() {
    let folder = TempDir::new().unwrap();
    let bytes = |name: &str, metadata: &BTreeMap<String, String>| {
        let path = folder.path().join(name);
        weights::save(&path, &small().0, metadata).unwrap();
        fs::read(path).unwrap()
    };
    let many: BTreeMap<_, _> = (0..20).map(|i| (format!("key {i}"), i.to_string())).collect();
    assert!(bytes("a", &many) == bytes("b", &many));
    assert!(bytes("a", &many) != bytes("b", &metadata()));
}

#[test]
fn files_cut_short() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("whole.safetensors");
    weights::save(&path, &small().0, &metadata()).unwrap();
    let whole = fs::read(path).unwrap();
    for length in 0..whole.len() {
        check_refused(&whole[..length], "");
    }
    check_refused(&whole[..5], "it has 5 bytes");
    let longer = [&whole[..], &[0]].concat();
    check_refused(&longer, "its header promises");
}

#[test]
fn files_of_other_formats() {
    check_refused(b"", "it has 0 bytes");
    check_refused(b"PK\x03\x04 a .pth file is a zip archive", "the length of a header");
    check_refused(b"\x89PNG\r\n\x1a\n and so on", "the length of a header");
    check_refused(&file("[1, 2]", &[]), "");
    check_refused(&file("no\nJSON", &[]), "expected");
    check_refused(&file("{\"a\": \n \"\n\"}", &[]), "");
}

#[test]
fn headers_that_promise_too_much() {
    check_refused(&u64::MAX.to_le_bytes(), "the length of a header");
    check_refused(&[&u64::MAX.to_le_bytes()[..], b"{}"].concat(), "the length of a header");
    let tensor = |shape: &str, end: u64| {
        format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[0,{end}]}}}}"#)
    };
    check_refused(&file(&tensor("[1048576, 1048576]", 1 << 42), &[0; 8]), "its header promises");
    check_refused(&file(&tensor("[4294967296, 4294967296]", 8), &[0; 8]), "");
    check_refused(&file(&tensor("[3]", 8), &[0; 8]), "");
    check_refused(&file(&tensor("[2]", 8).replace("[0,", "[4,"), &[0; 8]), "");
    check_refused(&file(&tensor("[2]", 2).replace("F32", "BOOL"), &[0; 2]), "a is BOOL");

    // Far more than there is memory for, all of it a hole.
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("encoder.safetensors");
    let mut hole = File::create(&path).unwrap();
    hole.write_all(&(1u64 << 39).to_le_bytes()).unwrap();
    hole.set_len(1 << 40).unwrap();
    check_refused_file(&path, "the length of a header");
    fs::write(&path, file("{}", &[])).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
    check_refused_file(&path, "its header promises 10");
}

/// A file whose header says truthfully that it is a TiB long, all of it a hole: to read it would be to
/// die.
fn hole(path: &Path, name: &str) {
    let header = format!(
        r#"{{"{name}":{{"dtype":"F32","shape":[274877906944],"data_offsets":[0,1099511627776]}}}}"#
    );
    fs::write(path, file(&header, &[])).unwrap();
    let file = File::options().write(true).open(path).unwrap();
    file.set_len((8 + header.len() as u64) + (1 << 40)).unwrap();
}

#[test]
fn files_that_do_not_fit_are_refused_before_they_are_read() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("encoder.safetensors");
    let (_, parameters) = small();
    for (name, want) in [
        ("3.bias", "1 mis-shaped: 3.bias (is [274877906944], should be [2])"),
        ("other", "1 unexpected: other"),
    ] {
        hole(&path, name);
        let opened = weights::open(&path).unwrap();
        assert_eq!(opened.names().collect::<Vec<_>>(), [name]);
        assert_eq!(opened.about(name), Some((DType::F32, &[1 << 38][..])));
        assert!(opened.about("none").is_none() && opened.tensor("none").unwrap().is_none());
        let message = parameters.load(&opened).unwrap_err().to_string();
        assert!(message.contains(want), "{message}");
    }

    // A head that is passed over is not read either.
    let mut rng = StdRng::seed_from_u64(1);
    let parameters = Parameters::new(&Device::Cpu);
    let plain = EncoderOptions::default();
    let builder = Builder::new(&parameters, &mut rng);
    let classifier = Classifier::new("resnet18", &plain, 3, builder).unwrap();
    hole(&path, "fc.weight");
    let opened = weights::open(&path).unwrap();
    let error = classifier.load_encoder(&parameters, &opened, &path).unwrap_err().to_string();
    assert!(error.contains(" missing: ") && !error.contains("unexpected"), "{error}");
}

#[test]
fn a_file_that_is_cut_short_after_it_was_opened_is_an_error() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("encoder.safetensors");
    let (tensors, parameters) = small();
    weights::save(&path, &tensors, &metadata()).unwrap();
    let opened = weights::open(&path).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    let error = parameters.load(&opened).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
    assert_eq!(all_facts(&parameters.tensors()), all_facts(&tensors), "something was loaded");
}

#[test]
fn no_changed_byte_of_a_header_panics() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("encoder.safetensors");
    let whole = file(
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
        &[1f32.to_le_bytes(), 2f32.to_le_bytes()].concat(),
    );
    for place in 0..whole.len() - 8 {
        for change in [1, 2, 4, 8, 16, 32, 64, 128] {
            let mut bytes = whole.clone();
            bytes[place] ^= change;
            fs::write(&path, &bytes).unwrap();
            if let Err(error) = weights::read(&path) {
                assert_eq!(error.to_string().lines().count(), 1, "{error}");
            }
        }
    }
}

#[test]
fn files_that_are_not_there() {
    let folder = TempDir::new().unwrap();
    for path in [folder.path().to_owned(), folder.path().join("none.safetensors")] {
        let error = weights::read(&path).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
        assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
    }
}

#[test]
fn failed_writes_leave_nothing() {
    let folder = TempDir::new().unwrap();
    let here = |name: &str| folder.path().join(name);
    // A file where a folder should be, a folder where the file should be.
    fs::write(here("file"), "kept").unwrap();
    fs::create_dir_all(here("folder/inside")).unwrap();
    let tensors = small().0;
    for path in [here("file/encoder.safetensors"), here("folder")] {
        let error = weights::save(&path, &tensors, &metadata()).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
        assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
    }
    // A type that the files do not hold, over a file that is there.
    let half = Tensor::zeros(2, DType::F16, &Device::Cpu).unwrap();
    weights::save(&here("old"), &tensors, &metadata()).unwrap();
    let error = weights::save(&here("old"), &[("a".into(), half)].into(), &metadata());
    assert!(error.unwrap_err().to_string().contains("cannot hold F16"));

    assert_eq!(all_facts(&weights::read(&here("old")).unwrap().0), all_facts(&tensors));
    assert_eq!(fs::read_to_string(here("file")).unwrap(), "kept");
    let mut names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["file", "folder", "old"]);
}

/// Whoever reads while a file is replaced finds the old one or the new one.
#[test]
fn readers_never_see_half_a_file() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("encoder.safetensors");
    let tensors = |value: f32| -> Tensors {
        let tensor = |i| (format!("{i}"), Tensor::full(value, 5000, &Device::Cpu).unwrap());
        (0..4).map(tensor).collect()
    };
    let save = |value: u8| {
        let metadata = [("value".to_owned(), value.to_string())].into();
        weights::save(&path, &tensors(value.into()), &metadata).unwrap();
    };
    save(0);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| (1..40).for_each(save));
        while !writer.is_finished() {
            let (read, metadata) = weights::read(&path).unwrap();
            let value: f32 = metadata["value"].parse().unwrap();
            assert_eq!(all_facts(&read), all_facts(&tensors(value)));
        }
    });
}

/// Loads changed weights into the small network, which must refuse them and stay as it was.
#[track_caller]
fn check_misfit(change: impl FnOnce(&mut Tensors), want: &str) {
    let (mut tensors, parameters) = small();
    let before = all_facts(&tensors);
    for tensor in tensors.values_mut() {
        *tensor = (&*tensor + 1.0).unwrap();
    }
    change(&mut tensors);
    let error = parameters.load(&tensors).unwrap_err();
    assert_eq!(error.to_string(), want);
    assert_eq!(all_facts(&parameters.tensors()), before);
}

#[test]
fn misfits_are_named_and_nothing_is_loaded() {
    let zeros = |dims: &[usize], dtype| Tensor::zeros(dims, dtype, &Device::Cpu).unwrap();
    check_misfit(
        |tensors| drop(tensors.remove("1.running_var")),
        "the weights do not fit: 1 missing: 1.running_var",
    );
    check_misfit(
        |tensors| drop(tensors.insert("4.weight".into(), zeros(&[1], DType::F32))),
        "the weights do not fit: 1 unexpected: 4.weight",
    );
    check_misfit(
        |tensors| drop(tensors.insert("3.weight".into(), zeros(&[3, 2], DType::F32))),
        "the weights do not fit: 1 mis-shaped: 3.weight (is [3, 2], should be [2, 3])",
    );
    check_misfit(
        |tensors| {
            let bias = tensors.remove("3.bias").unwrap();
            tensors.insert("fc.bias".into(), bias);
            tensors.insert("0.weight".into(), zeros(&[], DType::F32));
        },
        "the weights do not fit: 1 missing: 3.bias; 1 unexpected: fc.bias; \
         1 mis-shaped: 0.weight (is [], should be [3, 4])",
    );
    check_misfit(
        |tensors| drop(tensors.insert("3.weight".into(), zeros(&[2, 3], DType::I64))),
        "3.weight is i64; give weights in floating point",
    );
    check_misfit(
        |tensors| drop(tensors.insert("3.weight".into(), zeros(&[2, 3], DType::F8E4M3))),
        "3.weight is f8e4m3; give weights in floating point",
    );
}

#[test]
fn other_precisions_are_converted() {
    let (tensors, parameters) = small();
    for dtype in [DType::F16, DType::BF16, DType::F64] {
        let changed: Tensors = tensors
            .iter()
            .map(|(name, tensor)| (name.clone(), tensor.to_dtype(dtype).unwrap()))
            .collect();
        parameters.load(&changed).unwrap();
        for (name, tensor) in parameters.tensors() {
            assert_eq!(tensor.dtype(), DType::F32);
            assert_eq!(facts(&tensor).values, facts(&changed[&name]).values, "{name} in {dtype:?}");
        }
    }
}

#[test]
fn encoders_pass_between_networks() {
    let plain = EncoderOptions::default();
    for (name, head) in [("xresnet18", "11"), ("resnet18", "fc")] {
        let unet_parameters = Parameters::new(&Device::Cpu);
        let mut rng = StdRng::seed_from_u64(1);
        let builder = Builder::new(&unet_parameters, &mut rng);
        let unet = UNet::new(name, &plain, 16, &UNetOptions::default(), builder).unwrap();
        let tensors = unet.encoder_tensors(&unet_parameters);

        let alone = Parameters::new(&Device::Cpu);
        encoder(name, &plain, Builder::new(&alone, &mut rng)).unwrap();
        alone.load(&tensors).unwrap();

        let parameters = Parameters::new(&Device::Cpu);
        let builder = Builder::new(&parameters, &mut rng);
        let classifier = Classifier::new(name, &plain, 3, builder).unwrap();
        classifier.load_encoder(&parameters, &tensors, Path::new("unused")).unwrap();
        let got = classifier.encoder_tensors(&parameters);
        assert_eq!(all_facts(&got), all_facts(&tensors), "{name}");
        assert_eq!(all_facts(&got), all_facts(&alone.tensors()), "{name}");
        assert_eq!(parameters.tensors().len(), got.len() + 2);
        assert!(parameters.get(&format!("{head}.bias")).is_some());

        let error = classifier.load_encoder(&parameters, &small().0, Path::new("a.safetensors"));
        let message = error.unwrap_err().to_string();
        assert!(message.starts_with("a.safetensors: the weights do not fit: "), "{message}");
        assert!(message.contains(" missing: ") && message.contains(" unexpected: "), "{message}");
    }
}
