//! Weight files: what a run saves, and what can be made of a file again.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use pretext_models::weights::{self, Source as _};
use pretext_models::{Builder, Classifier, Parameters};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::files;
use crate::network::PretextNetwork;
use crate::recipe::{FinetuneRecipe, PretrainRecipe};
use crate::record::{Code, InitialWeights, Pretrained};
use crate::streams::{Purpose, stream};

// Metadata keys, the same in all files.
const KIND: &str = "pretext.kind";
const RECIPE: &str = "pretext.recipe";
const ENCODER: &str = "pretext.encoder";
const CLASSES: &str = "pretext.classes";
const PROVENANCE: &str = "pretext.provenance";
const CODE: &str = "pretext.code";

/// A file's own words about itself.
pub type Metadata = BTreeMap<String, String>;

/// Saves an encoder alone, under its own parameter names.
pub(crate) fn write_encoder(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    recipe: &PretrainRecipe,
    provenance: &Pretrained,
) -> Result<()> {
    let mut metadata = metadata(path, "encoder", recipe, &recipe.common.encoder)?;
    insert(path, &mut metadata, PROVENANCE, provenance)?;
    Ok(weights::save(path, tensors, &metadata)?)
}

/// Saves a whole pretext network.
pub(crate) fn write_pretext(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    recipe: &PretrainRecipe,
    provenance: &Pretrained,
) -> Result<()> {
    let mut metadata = metadata(path, "pretext", recipe, &recipe.common.encoder)?;
    insert(path, &mut metadata, PROVENANCE, provenance)?;
    Ok(weights::save(path, tensors, &metadata)?)
}

/// Saves a classifier.
pub(crate) fn write_classifier(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    recipe: &FinetuneRecipe,
    classes: &[String],
    provenance: &Pretrained,
) -> Result<()> {
    let mut metadata = metadata(path, "classifier", recipe, &recipe.common.encoder)?;
    insert(path, &mut metadata, CLASSES, &classes)?;
    insert(path, &mut metadata, PROVENANCE, provenance)?;
    Ok(weights::save(path, tensors, &metadata)?)
}

fn metadata(path: &Path, kind: &str, recipe: &impl Serialize, encoder: &str) -> Result<Metadata> {
    let mut metadata =
        Metadata::from([(KIND.into(), kind.into()), (ENCODER.into(), encoder.into())]);
    insert(path, &mut metadata, RECIPE, recipe)?;
    insert(path, &mut metadata, CODE, &Code::this())?;
    Ok(metadata)
}

fn insert(path: &Path, metadata: &mut Metadata, key: &str, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(value).map_err(|error| Error::File {
        path: path.to_owned(),
        problem: format!("cannot be written: {error}"),
    })?;
    metadata.insert(key.into(), text);
    Ok(())
}

/// A weight file that was opened.
pub struct WeightFile {
    /// Read when a network that they fit asks for them.
    pub(crate) weights: weights::Reader,
}

/// What a weight file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// An encoder alone.
    Encoder,
    /// An encoder with a head for named classes.
    Classifier,
    /// An encoder with what its pretext task needs on top.
    Pretext,
    /// Not written by this project: a pretrained encoder from elsewhere, if anything.
    Foreign,
}

impl WeightFile {
    /// Opens a weight file, and reads what it says of its tensors and of itself.
    ///
    /// # Errors
    /// If it cannot be read or is not a safetensors file.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { weights: weights::open(path)? })
    }

    /// What the file says it holds.
    pub fn kind(&self) -> FileKind {
        match self.metadata().get(KIND).map(String::as_str) {
            Some("encoder") => FileKind::Encoder,
            Some("classifier") => FileKind::Classifier,
            Some("pretext") => FileKind::Pretext,
            _ => FileKind::Foreign,
        }
    }

    /// The tensors' names and shapes.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        let shape = |name| self.weights.about(name).map_or(&[][..], |(_, shape)| shape);
        self.weights.names().map(move |name| (name, shape(name)))
    }

    /// The file's own words about itself.
    pub fn metadata(&self) -> &Metadata {
        self.weights.metadata()
    }

    /// The encoder's name, where the file tells it.
    pub fn encoder(&self) -> Option<&str> {
        self.metadata().get(ENCODER).map(String::as_str)
    }

    /// How the weights came to be, where the file tells it.
    pub fn provenance(&self) -> Option<Pretrained> {
        serde_json::from_str(self.metadata().get(PROVENANCE)?).ok()
    }

    /// The recipe and network of a `pretext` file.
    pub(crate) fn pretext(&self) -> Result<(PretrainRecipe, PretextNetwork)> {
        let recipe: PretrainRecipe = self.get(RECIPE)?;
        let network = PretextNetwork::new(&recipe, &Device::Cpu)?;
        self.load(network.parameters())?;
        Ok((recipe, network))
    }

    /// The classifier of a `classifier` file.
    pub(crate) fn classifier(&self, device: &Device) -> Result<TrainedClassifier> {
        let (recipe, classes): (FinetuneRecipe, Vec<String>) =
            (self.get(RECIPE)?, self.get(CLASSES)?);
        let (classifier, parameters) = new_classifier(&recipe, classes.len(), device)?;
        self.load(&parameters)?;
        Ok(TrainedClassifier { classifier, recipe, classes })
    }

    fn load(&self, parameters: &Parameters) -> Result<()> {
        Ok(parameters.load(&self.weights).map_err(|error| error.about(self.path()))?)
    }

    /// The initial weights that fine-tuning from this file begins with.
    pub(crate) fn initial_weights(&self) -> Result<InitialWeights> {
        Ok(InitialWeights::File {
            path: Some(self.path().display().to_string()),
            sha256: files::sha256_of_file(self.path())?,
            pretrained: self.provenance(),
        })
    }

    /// The recipe of the run that saved the file.
    pub(crate) fn recipe<T: DeserializeOwned>(&self) -> Result<T> {
        self.get(RECIPE)
    }

    fn get<T: DeserializeOwned>(&self, key: &str) -> Result<T> {
        let refuse = |problem: String| Error::File { path: self.path().to_owned(), problem };
        let text = self.metadata().get(key).ok_or_else(|| {
            refuse(format!(
                "has no {key} in its metadata; it was not saved by pretext finetune or pretrain"
            ))
        })?;
        serde_json::from_str(text)
            .map_err(|error| refuse(format!("has a {key} of another version ({error})")))
    }

    /// Says what the file is where another kind was wanted.
    pub(crate) fn refuse(&self, want: &str) -> Error {
        let is = match self.kind() {
            FileKind::Encoder => "an encoder without a head",
            FileKind::Classifier => "a classifier",
            FileKind::Pretext => "a whole pretext network",
            FileKind::Foreign => "not a file of ours",
        };
        Error::File { path: self.path().to_owned(), problem: format!("is {is}; {want}") }
    }

    /// Where it was read from.
    pub fn path(&self) -> &Path {
        self.weights.path()
    }
}

/// A classifier from a file.
pub(crate) struct TrainedClassifier {
    pub(crate) classifier: Classifier,
    pub(crate) recipe: FinetuneRecipe,
    pub(crate) classes: Vec<String>,
}

/// The recipe's classifier with random weights from the recipe's seed.
pub(crate) fn new_classifier(
    recipe: &FinetuneRecipe,
    classes: usize,
    device: &Device,
) -> Result<(Classifier, Parameters)> {
    let common = &recipe.common;
    let parameters = Parameters::new(device);
    let mut rng = stream(common.seed, 0, 0, Purpose::Weights);
    let builder = Builder::new(&parameters, &mut rng);
    let classifier = Classifier::new(&common.encoder, &common.encoder_options, classes, builder)?;
    Ok((classifier, parameters))
}
