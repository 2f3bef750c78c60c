"""Prints what the tensorboard package finds in a folder of event files, as one JSON object."""

import json
import sys

from tensorboard.backend.event_processing import event_accumulator
from tensorboard.plugins.hparams import metadata


def hparams(accumulator):
    content = accumulator.summary_metadata  # tag -> SummaryMetadata
    result = {}
    for tag in sorted(content):
        data = content[tag].plugin_data
        if data.plugin_name != metadata.PLUGIN_NAME:
            continue
        if tag == metadata.EXPERIMENT_TAG:
            experiment = metadata.parse_experiment_plugin_data(data.content)
            result["infos"] = [[info.name, int(info.type)] for info in experiment.hparam_infos]
            result["metrics"] = [info.name.tag for info in experiment.metric_infos]
        elif tag == metadata.SESSION_START_INFO_TAG:
            start = metadata.parse_session_start_info_plugin_data(data.content)
            result["values"] = {
                name: getattr(start.hparams[name], start.hparams[name].WhichOneof("kind")) for name in sorted(start.hparams)
            }
        elif tag == metadata.SESSION_END_INFO_TAG:
            result["status"] = int(metadata.parse_session_end_info_plugin_data(data.content).status)
    return result


def main(folder):
    everything = {"scalars": 0, "images": 0, "histograms": 0, "tensors": 0, "compressedHistograms": 1}
    accumulator = event_accumulator.EventAccumulator(folder, size_guidance=everything)
    accumulator.Reload()
    tags = accumulator.Tags()
    result = {"version": accumulator.file_version, "hparams": hparams(accumulator)}
    # The package moves scalars, images and histograms into tensors when it reads them (data_compat).
    result["scalars"] = {tag: [[e.step, e.value] for e in accumulator.Scalars(tag)] for tag in tags["scalars"]}
    result["images"] = {
        tag: [[e.step, e.width, e.height, e.encoded_image_string.hex()] for e in accumulator.Images(tag)] for tag in tags["images"]
    }
    result["histograms"] = {
        tag: [
            [e.step, e.histogram_value.min, e.histogram_value.max, e.histogram_value.num, e.histogram_value.sum]
            + [list(e.histogram_value.bucket_limit), list(e.histogram_value.bucket)]
            for e in accumulator.Histograms(tag)
        ]
        for tag in tags["histograms"]
    }
    print(json.dumps(result, sort_keys=True))


main(sys.argv[1])
