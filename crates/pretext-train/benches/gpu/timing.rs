//! Timing by the GPU's own clock.

use candle_core::cuda_backend::WrapErr as _;
use candle_core::cuda_backend::cudarc::driver::sys::CUevent_flags;
use candle_core::{CudaDevice, DType, Device, Result, Tensor};

/// Launches of a case that are timed together.
const TOGETHER: usize = 4;
/// Bytes of the copies that the GPU is busy with while a case's launches are queued, and how many copies:
/// some 20 ms.
const BUSY: usize = 1 << 29;
const COPIES: usize = 60;

type Prepare = Box<dyn Fn() -> Result<Tensor>>;
type Run = Box<dyn Fn(&Tensor) -> Result<()>>;

/// Work for a GPU, and what it has to do.
pub(crate) struct Case {
    part: &'static str,
    name: String,
    bytes: usize,
    operations: f64,
    views: usize,
    together: usize,
    work: Option<(Prepare, Run)>,
}

impl Case {
    pub(crate) fn new(part: &'static str, name: impl Into<String>) -> Self {
        let (name, bytes, operations, views) = (name.into(), 0, 0.0, 0);
        Self { part, name, bytes, operations, views, together: TOGETHER, work: None }
    }

    /// Bytes that it reads and writes at least.
    pub(crate) fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// Additions and multiplications.
    pub(crate) fn operations(mut self, operations: f64) -> Self {
        self.operations = operations;
        self
    }

    /// Views of pictures that it makes, one launch at a time: their parameters have a few pieces of
    /// pinned memory in turn, for which the host would wait amid the launches that are timed together.
    pub(crate) fn views(mut self, views: usize) -> Self {
        self.views = views;
        self.together = 1;
        self
    }

    /// `run` is timed, on what `prepare` makes before.
    pub(crate) fn launches(
        mut self,
        prepare: impl Fn() -> Result<Tensor> + 'static,
        run: impl Fn(&Tensor) -> Result<()> + 'static,
    ) -> Self {
        self.work = Some((Box::new(prepare), Box::new(run)));
        self
    }
}

/// A GPU and what keeps it busy.
pub(crate) struct Clock {
    device: Device,
    gpu: CudaDevice,
    busy: Tensor,
}

impl Clock {
    pub(crate) fn new(device: &Device) -> Result<Self> {
        let gpu = device.as_cuda_device()?.clone();
        let busy = Tensor::zeros(BUSY, DType::U8, device)?;
        Ok(Self { device: device.clone(), gpu, busy })
    }

    /// Prints a case with the seconds that it took in each round.
    pub(crate) fn measure(&self, case: Case, rounds: usize) -> Result<()> {
        let Some((prepare, run)) = &case.work else { return Ok(()) };
        run(&prepare()?)?;
        let seconds: Vec<f64> =
            (0..rounds).map(|_| self.queued(case.together, prepare, run)).collect::<Result<_>>()?;
        // With the host's part, which sends parameters and launches: what a loop gets of it.
        let whole: Vec<f64> = match case.views {
            0 => vec![],
            _ => (0..rounds).map(|_| self.unqueued(prepare, run)).collect::<Result<_>>()?,
        };
        let line = serde_json::json!({
            "part": case.part,
            "name": case.name,
            "bytes": case.bytes,
            "operations": case.operations,
            "views": case.views,
            "seconds": seconds,
            "whole": whole,
        });
        println!("{line}");
        Ok(())
    }

    /// Seconds of one run, on the GPU alone: everything is queued before the first begins.
    fn queued(&self, together: usize, prepare: &Prepare, run: &Run) -> Result<f64> {
        let prepared: Vec<Tensor> = (0..together).map(|_| prepare()).collect::<Result<_>>()?;
        self.device.synchronize()?;
        let stream = self.gpu.cuda_stream();
        for _ in 0..COPIES {
            drop(self.busy.copy()?);
        }
        let event = || stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).w();
        let start = event()?;
        prepared.iter().try_for_each(run)?;
        let end = event()?;
        self.device.synchronize()?;
        Ok(f64::from(start.elapsed_ms(&end).w()?) / 1e3 / together as f64)
    }

    /// Seconds of one run of several in a row, the host's part included.
    fn unqueued(&self, prepare: &Prepare, run: &Run) -> Result<f64> {
        let prepared = prepare()?;
        self.device.synchronize()?;
        let start = std::time::Instant::now();
        (0..TOGETHER).try_for_each(|_| run(&prepared))?;
        self.device.synchronize()?;
        Ok(start.elapsed().as_secs_f64() / TOGETHER as f64)
    }
}
