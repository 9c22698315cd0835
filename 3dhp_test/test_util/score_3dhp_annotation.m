function annotation = score_3dhp_annotation(folder)
% Which truth a run was measured against, as the results_*.json in its folder say; annot3 where none does.
    annotation = '';
    found = dir(fullfile(folder, 'results_*.json'));
    for i = 1:numel(found)
        file = fullfile(folder, found(i).name);
        content = jsondecode(fileread(file));
        if ~isstruct(content) || ~isfield(content, 'annotation')
            continue
        end
        said = strtok(content.annotation, ',');  % after a comma stands a remark
        if ~isempty(annotation) && ~strcmp(said, annotation)
            error('%s has results against %s and %s; set the annotation that its poses are of', folder, annotation, said);
        end
        annotation = said;
    end
    if isempty(annotation)
        annotation = 'annot3';
        fprintf('no results_*.json in %s says an annotation: taking annot3\n', folder);
    end
end
