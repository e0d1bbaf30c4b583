//! The numbers of README.md.

use candle_core::{DType, Device, Tensor};
use pretext_models::{Builder, Classifier, ENCODERS, EncoderOptions, Kind, Mode, Parameters};
use rand::{SeedableRng as _, rngs::StdRng};

const README: &str = include_str!("../README.md");

/// 1,234,567.
fn with_commas(number: usize) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    groups.map(|group| std::str::from_utf8(group).unwrap()).collect::<Vec<_>>().join(",")
}

#[test]
fn table_of_encoders() {
    let is_row = |line: &&str| line.starts_with("| `xresnet") || line.starts_with("| `resnet");
    let rows: Vec<&str> = README.lines().filter(is_row).collect();
    assert_eq!(rows.len(), ENCODERS.len());
    for (spec, row) in ENCODERS.iter().zip(rows) {
        let parameters = Parameters::new(&Device::Cpu);
        let mut rng = StdRng::seed_from_u64(0);
        let builder = Builder::new(&parameters, &mut rng);
        let classifier =
            Classifier::new(spec.name, &EncoderOptions::default(), 20, builder).unwrap();
        let encoder = classifier.encoder_tensors(&parameters);
        let trained = parameters.iter().filter(|p| p.kind != Kind::RunningStatistic);
        let alone: usize =
            trained.filter_map(|p| encoder.get(&p.name)).map(Tensor::elem_count).sum();
        let channels = classifier.encoder().out_channels();
        let x = Tensor::zeros((1, 3, 33, 40), DType::F32, &Device::Cpu).unwrap();
        let features = classifier.encoder().forward(&x, Mode::Evaluate).unwrap();
        assert_eq!(features.dims(), [1, channels, 2, 2]);

        let library = if spec.name.starts_with('x') { "fastai" } else { "torchvision" };
        let numbers = [alone, parameters.parameter_count(), channels].map(with_commas);
        let want = format!("| `{}` | {library} | {} |", spec.name, numbers.join(" | "));
        assert_eq!(row, want);
        assert!(spec.about.contains(library), "{}", spec.about);
    }
}

/// The references, which tests/reference.rs compares with the networks, say how many there are.
#[test]
fn parameters_of_unets() {
    let references = [
        include_str!("reference/unet-xresnet18.json"),
        include_str!("reference/unet-xresnet34.json"),
    ];
    for reference in references {
        let json: serde_json::Value = serde_json::from_str(reference).unwrap();
        let parameters = with_commas(json["parameters"].as_u64().unwrap() as usize);
        assert!(README.contains(&format!("{parameters} on ")), "README lacks {parameters}");
    }
}
