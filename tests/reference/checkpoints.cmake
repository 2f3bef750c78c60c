treadle_test(reference.checkpoints
  SOURCES checkpoints_loading_test.cpp checkpoints_test.cpp checkpoints_tree.cpp
  LABEL reference
  PRECOMPILED nn
  LIBRARIES treadle_checkpoint nlohmann_json::nlohmann_json)
