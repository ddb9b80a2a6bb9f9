"""Looking inside multimodal models: the modality gap, implicit alignment, information flow, and interventions."""
